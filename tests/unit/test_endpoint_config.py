"""endpoint.toml: what is refused, how it is told, and what comes out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.endpoint.config import Endpoint, EndpointError, Gpu, Scaling, Workers, load, parse

ROOT = Path(__file__).resolve().parents[2]
NAMED = 'name = "sotto"\n'


def refusal(text: str) -> str:
    with pytest.raises(EndpointError) as caught:
        parse(text)
    return str(caught.value)


# Not a file, not text, not TOML


def test_a_file_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "endpoint.toml").write_bytes(b'name = "\xff\xfe"')
    with pytest.raises(EndpointError, match="not text in UTF-8"):
        load(tmp_path / "endpoint.toml")


@pytest.mark.parametrize(
    "text",
    [
        'name = "sotto',
        'name = "a"\nname = "b"',
        "name sotto",
        "[workers\nmin = 1",
        "\x00",
        '{"name": "sotto"}',
    ],
)
def test_what_is_not_toml_is_refused_with_the_place(text: str) -> None:
    told = refusal(text)
    assert told.startswith("endpoint.toml: not TOML: ")
    assert "(at " in told


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    assert "not TOML: " in refusal(f"timeout_s = {'9' * 10_000}")


def test_ten_thousand_brackets_are_refused() -> None:
    assert "not TOML: nested too deeply" in refusal("name = " + "[" * 10_000)


@given(st.text(max_size=200))
def test_any_text_is_an_endpoint_or_a_refusal(text: str) -> None:
    with suppress(EndpointError):
        assert parse(text).name


# One wrong value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('type = "qeue"', "type: 'qeue' is not allowed; use queue"),
        ("type = 1", "type: 1 is not allowed; use queue"),
        ("timeout_s = 4", "timeout_s: 4 is not allowed; use seconds from 5 to 604800"),
        ("timeout_s = 604801", "timeout_s: 604801 is not allowed; use seconds from 5 to 604800"),
        ("timeout_s = nan", "timeout_s: nan is not allowed; use seconds from 5 to 604800"),
        ("timeout_s = inf", "timeout_s: inf is not allowed; use seconds from 5 to 604800"),
        ("timeout_s = true", "timeout_s: True is not allowed; use seconds from 5 to 604800"),
        ('timeout_s = "300"', "timeout_s: '300' is not allowed; use seconds from 5 to 604800"),
        ("workers = 3", "workers: 3 is not allowed; use a table, [workers]"),
        ("env = []", "env: [] is not allowed; use a table, [env]"),
        (
            "workers.min = -1",
            "workers.min: -1 is not allowed; use a whole number from 0 to 1000",
        ),
        (
            "workers.max = 1.5",
            "workers.max: 1.5 is not allowed; use a whole number from 0 to 1000",
        ),
        (
            "workers.idle_timeout_s = 0",
            "workers.idle_timeout_s: 0 is not allowed; use seconds from 1 to 3600",
        ),
        (
            'scaling.kind = "QUEUE_DELAY"',
            "scaling.kind: 'QUEUE_DELAY' is not allowed; use queue_delay or request_count",
        ),
        (
            "scaling.value = 0",
            "scaling.value: 0 is not allowed; use a number from 0.5 to 1000000",
        ),
        ("tiemout_s = 5", "tiemout_s: no such key; did you mean 'timeout_s'?"),
        ("gpu = true", "gpu: True is not allowed; use a table, [gpu]"),
        ("secrets = 1", "secrets: 1 is not allowed; use a table, [secrets]"),
        ("workers.maximum = 2", "workers.maximum: no such key; did you mean 'max'?"),
        ('"a b" = 1', "'a b': no such key; keys are " + ", ".join(Endpoint.__struct_fields__)),
    ],
)
def test_a_value_that_is_not_allowed_is_told_with_its_line_and_what_is(
    line: str, told: str
) -> None:
    assert refusal(f"{NAMED}\n{line}\n") == f"endpoint.toml:3: {told}"


@pytest.mark.parametrize("name", ["ab", "", "-sotto", "so tto", "sotto/x", "sotto\\n", "x" * 192])
def test_a_name_that_cannot_stand_in_an_address_is_refused(name: str) -> None:
    assert "endpoint.toml:1: name: " in refusal(f'name = "{name}"')


def test_a_missing_name_is_told() -> None:
    assert refusal("") == (
        "endpoint.toml:1: name: missing; give 3 to 191 letters, digits, dots, _ and -, with a "
        "letter or a digit in front"
    )


@pytest.mark.parametrize("kind", ["load-balancer", "LOAD_BALANCER", "lb"])
def test_a_load_balancer_is_refused_with_the_reason(kind: str) -> None:
    told = refusal(f'{NAMED}type = "{kind}"')
    assert told.startswith(f"endpoint.toml:2: type: '{kind}' is not allowed; use queue: ")
    assert "opens no port" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('image = ""', "image: '' is not allowed; use the name of a Docker image"),
        ('image = "me/sotto 1"', "image: 'me/sotto 1' is not allowed"),
        ('image = "me/sotto:1\\n"', "image: 'me/sotto:1\\n' is not allowed"),
        ("image = 1", "image: 1 is not allowed"),
        ('registry = "a/b"', "registry: 'a/b' is not allowed; use an id of RunPod's"),
        ("disk_gb = 0", "disk_gb: 0 is not allowed; use a whole number from 1 to 100000"),
        ("disk_gb = 10.5", "disk_gb: 10.5 is not allowed"),
        ("disk_gb = nan", "disk_gb: nan is not allowed"),
        ("flashboot = true", "flashboot: True is not allowed; use off, on or priority"),
        ('flashboot = "FLASHBOOT"', "flashboot: 'FLASHBOOT' is not allowed; use off, on or"),
        ('data_centers = "EU-RO-1"', "data_centers: 'EU-RO-1' is not allowed; use a list"),
        ('data_centers = ["Europe"]', "data_centers: ['Europe'] is not allowed; use a list"),
        ("network_volumes = [1]", "network_volumes: [1] is not allowed; use a list of ids"),
        ('network_volumes = ["a/../b"]', "network_volumes: ['a/../b'] is not allowed"),
        ('cached_model = "base"', "cached_model: 'base' is not allowed; use a repository"),
        ('cached_model = "https://hf.co/a/b"', "cached_model: 'https://hf.co/a/b' is not allowed"),
        ('cached_model = "a/b:"', "cached_model: 'a/b:' is not allowed"),
        ('gpu.pools = "ADA_24"', "gpu.pools: 'ADA_24' is not allowed; use a list of RunPod's GPU"),
        ('gpu.pools = ["NVIDIA L4"]', "gpu.pools: ['NVIDIA L4'] is not allowed; use a list of"),
        ("gpu.pools = [[]]", "gpu.pools: [[]] is not allowed"),
        ('gpu.excluded_types = ["-NVIDIA L4"]', "gpu.excluded_types: ['-NVIDIA L4'] is not"),
        ('gpu.excluded_types = ["A, B"]', "gpu.excluded_types: ['A, B'] is not allowed"),
        (
            "gpu.min_cuda = 12.4",
            "gpu.min_cuda: 12.4 is not allowed; use a version as text, such as",
        ),
        ('gpu.min_cuda = "12"', "gpu.min_cuda: '12' is not allowed"),
        ("gpu.count = 0", "gpu.count: 0 is not allowed; use 1"),
        ('gpu.pool = "ADA_24"', "gpu.pool: no such key; did you mean 'pools'?"),
        ('env_from = "X"', "env_from: 'X' is not allowed; use a list of variables, such as"),
        ('env_from = ["A=B"]', "env_from: ['A=B'] is not allowed; use a list of variables"),
    ],
)
def test_a_wrong_value_that_only_runpod_acts_on_is_told_everywhere(line: str, told: str) -> None:
    assert refusal(f"{NAMED}\n{line}\n").startswith(f"endpoint.toml:3: {told}")


def test_several_gpus_for_a_worker_are_refused_with_the_reason() -> None:
    told = refusal(f"{NAMED}[gpu]\ncount = 2\n")
    assert told.startswith("endpoint.toml:3: gpu.count: 2 is not allowed; use 1: ")
    assert "one GPU" in told


@pytest.mark.parametrize(
    "line",
    [
        'gpu.pools = ["ADA_24", "ADA_24"]',
        'data_centers = ["EU-RO-1", "EU-RO-1"]',
        'env_from = ["A", "B", "A"]',
    ],
)
def test_what_stands_twice_in_a_list_is_told(line: str) -> None:
    assert refusal(f"{NAMED}{line}\n").endswith("' stands there more than once")


# The environment, which may hold secrets


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("SOTTO_CONCURRENCY = 4", "env.SOTTO_CONCURRENCY: the value is not allowed; use text"),
        ('SOTTO_MODEL = "a\\u0000b"', "env.SOTTO_MODEL: the value is not allowed; use text"),
        ('9X = "sesame"', "env.'9X': the name is not allowed; use letters"),
        ('"A=B" = "sesame"', "env.'A=B': the name is not allowed; use letters"),
        ('RUNPOD_POD_ID = "sesame"', "env.RUNPOD_POD_ID: the platform sets this one; leave it out"),
        ('RUNPOD_WEBHOOK_PING = "sesame"', "env.RUNPOD_WEBHOOK_PING: the platform sets this one"),
    ],
)
def test_a_variable_that_cannot_be_set_is_told_without_its_value(line: str, told: str) -> None:
    message = refusal(f"{NAMED}[env]\n{line}\n")
    assert message.startswith(f"endpoint.toml:3: {told}")
    assert "sesame" not in message


@pytest.mark.parametrize("table", ["env", "secrets"])
def test_an_endpoint_shows_the_names_of_its_environment_only(table: str) -> None:
    shown = repr(parse(f'{NAMED}[{table}]\nSOTTO_HUB_TOKEN = "sesame"\n'))
    assert "SOTTO_HUB_TOKEN" in shown
    assert "sesame" not in shown


def test_a_secret_written_where_its_name_belongs_is_refused_unseen() -> None:
    told = refusal(f'{NAMED}[secrets]\nSOTTO_HUB_TOKEN = "open sesame"\n')
    assert told.startswith("endpoint.toml:3: secrets.SOTTO_HUB_TOKEN: the value is not allowed")
    assert "sesame" not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[env]\nA = "1"\n[secrets]\nA = "a"\n', "endpoint.toml:5: secrets.A: also in env"),
        ('env_from = ["A"]\n[env]\nA = "1"\n', "endpoint.toml:2: env_from: A: also in env"),
        ('env_from = ["A"]\n[secrets]\nA = "a"\n', "endpoint.toml:2: env_from: A: also in secrets"),
        (
            'env_from = ["RUNPOD_POD_ID"]\n',
            "endpoint.toml:2: env_from: RUNPOD_POD_ID: the platform",
        ),
        (
            '[secrets]\nRUNPOD_POD_ID = "a"\n',
            "endpoint.toml:3: secrets.RUNPOD_POD_ID: the platform",
        ),
    ],
)
def test_a_variable_is_given_once_and_is_not_the_platforms(text: str, told: str) -> None:
    assert refusal(f"{NAMED}{text}").startswith(told)


@pytest.mark.parametrize("value", ["300", "301", "0", "-1", "nan", "inf", "soon", "", "1e9"])
def test_a_job_may_not_run_as_long_as_the_endpoint_lets_it(value: str) -> None:
    told = refusal(f'{NAMED}[env]\nSOTTO_JOB_TIMEOUT_S = "{value}"\n')
    assert told.startswith(
        "endpoint.toml:3: env.SOTTO_JOB_TIMEOUT_S: not a number of seconds below"
    )


# What RunPod needs


def test_a_file_for_this_machine_is_refused_for_runpod_with_all_that_is_missing() -> None:
    with pytest.raises(EndpointError) as caught:
        parse(f"{NAMED}[workers]\nidle_timeout_s = 1.5\n", to_deploy=True)
    assert [row.split("; ")[0] for row in str(caught.value).splitlines()] == [
        "endpoint.toml:1: gpu.pools: missing",
        "endpoint.toml:1: image: missing",
        "endpoint.toml:3: workers.idle_timeout_s: 1.5 is not allowed on RunPod",
    ]


def test_what_is_wrong_is_not_called_missing_too() -> None:
    with pytest.raises(EndpointError) as caught:
        parse(f"{NAMED}image = 1\ngpu = 2\n", to_deploy=True)
    assert [row.split(": ")[:2] for row in str(caught.value).splitlines()] == [
        ["endpoint.toml:2", "image"],
        ["endpoint.toml:3", "gpu"],
    ]


@pytest.mark.parametrize("given", ["", 'env_from = ["SOTTO_JOB_TIMEOUT_S"]\n'])
def test_a_timeout_that_leaves_a_worker_no_time_is_refused_unless_it_is_set(given: str) -> None:
    text = f'{NAMED}image = "me/sotto:1"\ngpu.pools = ["ADA_24"]\ntimeout_s = 19.5\n{given}'
    if given:
        assert parse(text, to_deploy=True).timeout_s == 19.5
        return
    with pytest.raises(
        EndpointError, match=r"endpoint\.toml:4: timeout_s: 19\.5 leaves too little"
    ):
        parse(text, to_deploy=True)


# Values that do not go together


def test_a_minimum_above_the_maximum_is_refused_at_the_minimum() -> None:
    told = refusal(f"{NAMED}[workers]\nmax = 2\nmin = 3\n")
    assert told == "endpoint.toml:4: workers.min: 3 is more than workers.max, which is 2"


def test_an_idle_timeout_is_refused_where_the_request_count_scales() -> None:
    told = refusal(f'{NAMED}workers.idle_timeout_s = 5\n[scaling]\nkind = "request_count"\n')
    assert told.startswith("endpoint.toml:2: workers.idle_timeout_s: 5 cannot act: ")


@pytest.mark.parametrize("value", ["0.5", "1.5"])
def test_a_request_count_is_whole(value: str) -> None:
    told = refusal(f'{NAMED}[scaling]\nkind = "request_count"\nvalue = {value}\n')
    assert told == (
        f"endpoint.toml:4: scaling.value: {value} is not allowed; use a whole number of jobs, 1 or "
        "more"
    )


def test_a_wrong_value_is_not_blamed_on_its_neighbour_too() -> None:
    assert refusal(f"{NAMED}[workers]\nmin = 5\nmax = -1\n").splitlines() == [
        "endpoint.toml:4: workers.max: -1 is not allowed; use a whole number from 0 to 1000"
    ]


# Everything at once, each at its line


MANY_FAULTS = """\
# An endpoint with a fault in nearly every line.
name = "x"
type = "load-balancer"

[workers]  # this line is right
min = 2
max = 1
idle_timeout_s = "ten"
colour = [
    "# not a comment",
    "min = 4",
]

[scaling]
kind = "speed"

[env]
TEXT = \"\"\"
[workers]
min = 7
\"\"\"
SOTTO_CONCURRENCY = 4
"""


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    assert [row.split(": ")[:2] for row in refusal(MANY_FAULTS).splitlines()] == [
        ["endpoint.toml:2", "name"],
        ["endpoint.toml:3", "type"],
        ["endpoint.toml:6", "workers.min"],
        ["endpoint.toml:8", "workers.idle_timeout_s"],
        ["endpoint.toml:9", "workers.colour"],
        ["endpoint.toml:15", "scaling.kind"],
        ["endpoint.toml:22", "env.SOTTO_CONCURRENCY"],
    ]


def test_lines_are_right_in_a_file_from_windows(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.toml"
    path.write_bytes("\ufeff".encode() + MANY_FAULTS.replace("\n", "\r\n").encode())
    with pytest.raises(EndpointError) as caught:
        load(path)
    assert f"{path}:22: env.SOTTO_CONCURRENCY: " in str(caught.value)


# What comes out


def test_a_name_is_enough() -> None:
    assert parse(NAMED) == Endpoint(
        name="sotto",
        type="queue",
        image=None,
        registry=None,
        disk_gb=None,
        timeout_s=300.0,
        flashboot="off",
        data_centers=(),
        network_volumes=(),
        cached_model=None,
        gpu=Gpu(pools=(), excluded_types=(), count=1, min_cuda=None),
        workers=Workers(min=0, max=3, idle_timeout_s=None),
        scaling=Scaling(kind="queue_delay", value=4.0),
        env={},
        secrets={},
        env_from=(),
    )


def test_all_that_is_given_is_kept() -> None:
    text = """
        name = "a.b-c_1"
        type = "queue"
        timeout_s = 60
        workers = {min = 1, max = 2, idle_timeout_s = 30}
        scaling = {kind = "queue_delay", value = 0.5}
        env = {SOTTO_MODEL = "tiny.en", EMPTY = ""}
        image = "ghcr.io/me/sotto@sha256:0123"
        registry = "abc123"
        disk_gb = 30
        flashboot = "priority"
        data_centers = ["EU-RO-1", "US-KS-2"]
        network_volumes = ["vol1"]
        cached_model = "Systran/faster-whisper-large-v3:main"
        gpu = {pools = ["ADA_24"], excluded_types = ["NVIDIA L4"], count = 1, min_cuda = "12.4"}
        secrets = {SOTTO_HUB_TOKEN = "hub_token"}
        env_from = ["SOTTO_S3_BUCKET"]
    """
    assert parse(text, to_deploy=True) == Endpoint(
        name="a.b-c_1",
        timeout_s=60.0,
        image="ghcr.io/me/sotto@sha256:0123",
        registry="abc123",
        disk_gb=30,
        flashboot="priority",
        data_centers=("EU-RO-1", "US-KS-2"),
        network_volumes=("vol1",),
        cached_model="Systran/faster-whisper-large-v3:main",
        gpu=Gpu(pools=("ADA_24",), excluded_types=("NVIDIA L4",), min_cuda="12.4"),
        secrets={"SOTTO_HUB_TOKEN": "hub_token"},
        env_from=("SOTTO_S3_BUCKET",),
        workers=Workers(min=1, max=2, idle_timeout_s=30.0),
        scaling=Scaling(kind="queue_delay", value=0.5),
        env={"SOTTO_MODEL": "tiny.en", "EMPTY": ""},
    )


@pytest.mark.parametrize(
    ("text", "idle_timeout_s"),
    [
        ("", 10.0),
        ("workers.idle_timeout_s = 30", 30.0),
        ('scaling.kind = "request_count"', 0.0),
    ],
)
def test_how_long_an_idle_worker_stays(text: str, idle_timeout_s: float) -> None:
    assert parse(f"{NAMED}{text}").idle_timeout_s == idle_timeout_s


def test_the_endpoint_of_this_repository_is_one() -> None:
    endpoint = load(ROOT / "endpoint.toml", to_deploy=True)
    assert endpoint.name == "sotto"
    assert endpoint.workers.max >= 1
