"""`sotto transcribe`: files, folders and addresses in, transcripts printed or written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import srt
import webvtt
from tests.file_server import FileServer, status, whole
from tests.speech_data import clip

from sotto import __version__, cli
from sotto.engine.base import Ask
from sotto.engine.fake import FakeEngine
from sotto.models import catalogue
from sotto.request import Request, parse

ROOT = Path(__file__).resolve().parents[2]
SPEECH = clip("en-young-man").path


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTO_ENGINE", "fake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of the person who types."""
    home = tmp_path / "home"
    home.mkdir()
    return home


def speech(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SPEECH, folder / name)
    return [str(folder / name) for name in names]


def transcribe(*args: str | Path) -> int:
    return cli.main(["transcribe", *map(str, args)])


def below(folder: Path) -> list[str]:
    """All files, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# Bad command lines: told in a line, nothing is transcribed


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--format", "doc"], "--format: 'doc' is not one of txt, srt, vtt, tsv, json"),
        (["--format", "srt,,pdf"], "--format: 'pdf' is not one of txt, srt, vtt, tsv, json"),
        (["--output-dir", "out"], "--output-dir goes with --format"),
        (["--output-dir", "out", "--format", ","], "--output-dir goes with --format"),
        (["--option", "beam_size"], "--option: 'beam_size': expected NAME=VALUE"),
        (["--option", "beam_size=many"], "beam_size: 'many': expected int"),
        (["--option", "beam_size=0"], "beam_size: 0: expected int >= 1"),
        (["--option", "beamsize=1"], "beamsize: no such option; did you mean 'beam_size'?"),
        (["--option", "=1"], "'': no such option; options are "),
        (["--option", "transcription=srt"], "--option: 'transcription' is given by --format"),
        (["--option", "audio_path=/etc/passwd"], "--option: 'audio_path' is given by FILE"),
        (["--option", "stream=true"], "--option: 'stream' acts on a worker alone"),
        (["--option", "upload=true"], "--option: 'upload' acts on a worker alone"),
        (["--option", "upload_url=x"], "--option: 'upload_url' acts on a worker alone"),
        (["--option", "upload_headers={}"], "--option: 'upload_headers' acts on a worker alone"),
        (["--option", "initial_prompt=[1984]"], "initial_prompt: [1984]: expected str"),
        (["--option", 'hotwords={"a": 1}'], "hotwords: {'a': 1}: expected str"),
        (["--option", "clip_timestamps=true"], "clip_timestamps: 'true': expected rising seconds"),
        (["--option", "suppress_tokens=1.5"], "suppress_tokens: '1.5': expected token ids"),
        (["--option", 'vad_parameters={"treshold": 1}'], "vad_parameters.treshold: no such option"),
        (["--language", "english"], "language: 'english' is not a Whisper language code; did you"),
    ],
)
def test_a_wrong_flag_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    assert transcribe(*speech(folder, "a.ogg"), *args) == 1
    out, err = capsys.readouterr()
    assert err.startswith(told)
    assert len(err.splitlines()) == 1
    assert out == ""
    assert below(folder) == ["a.ogg"]


@pytest.mark.parametrize("args", [[], ["transcribe"], ["translate", "x"], ["transcribe", "--no"]])
def test_a_command_line_that_cannot_be_read_shows_the_usage(
    capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(args)
    assert stopped.value.code == 2
    assert "usage: sotto" in capsys.readouterr().err


def test_wrong_settings_are_all_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOTTO_DEVISE", "cpu")
    monkeypatch.setenv("SOTTO_MAX_AUDIO_S", "long")
    assert transcribe(*speech(folder, "a.ogg")) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["SOTTO_DEVISE", "SOTTO_MAX_AUDIO_S"]


def test_a_file_that_is_not_there_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(*speech(folder, "a.ogg"), folder / "b.ogg") == 1
    assert capsys.readouterr().err == f"{folder / 'b.ogg'}: no such file or folder\n"


def test_a_folder_without_audio_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("no audio")
    assert transcribe(folder) == 1
    assert capsys.readouterr().err == f"{folder}: no audio file in this folder\n"


# One file fails, the others do not


def test_what_fails_is_told_by_its_name_and_the_others_are_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = speech(folder, "a.ogg", "z.ogg")
    (folder / "text.wav").write_text("this is no audio")
    (folder / "empty.wav").touch()
    assert transcribe(
        good[0], folder / "text.wav", folder / "empty.wav", good[1], "--format", "srt"
    )
    err = capsys.readouterr().err
    assert "text.wav: " in err
    assert "empty.wav: " in err
    assert "Traceback" not in err
    assert below(folder) == ["a.ogg", "a.srt", "empty.wav", "text.wav", "z.ogg", "z.srt"]


def test_a_folder_that_cannot_be_written_is_told_and_the_exit_code_is_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").write_text("a file in the way")
    files = speech(folder, "a.ogg")
    assert transcribe(*files, "--format", "txt", "--output-dir", folder / "out") == 1
    err = capsys.readouterr().err
    assert "a.ogg: " in err
    assert "Traceback" not in err
    assert below(folder) == ["a.ogg", "out"]


def test_a_model_that_is_not_here_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOTTO_ENGINE", "whisper")
    monkeypatch.setenv("SOTTO_WEIGHTS_DIR", str(folder))
    assert transcribe(*speech(folder, "a.ogg"), "--model", "large-v9") == 1
    err = capsys.readouterr().err
    assert "large-v9" in err
    assert "--download" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["large-v3", "large"])
def test_of_a_model_that_could_be_downloaded_it_is_told_how(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SOTTO_ENGINE", "whisper")
    monkeypatch.setenv("SOTTO_WEIGHTS_DIR", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    assert transcribe(*speech(folder, "a.ogg"), "--model", name) == 1
    assert capsys.readouterr().err.rstrip().endswith(f"; --download fetches '{name}'")


def test_a_download_of_a_model_that_there_is_not_names_those_there_are(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOTTO_ENGINE", "whisper")
    monkeypatch.setenv("SOTTO_WEIGHTS_DIR", str(folder))
    assert transcribe(*speech(folder, "a.ogg"), "--model", "large-v9", "--download") == 1
    fetches = capsys.readouterr().err.partition("; --download fetches ")[2]
    assert fetches.strip().split(", ") == list(catalogue.load())


def test_a_failure_after_one_format_leaves_no_half_written_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = speech(folder, "a.ogg")
    (folder / "a.vtt").mkdir()
    assert transcribe(*files, "--format", "srt,vtt") == 1
    assert "a.ogg: " in capsys.readouterr().err
    assert below(folder) == ["a.ogg", "a.srt"]


def test_a_fault_of_ours_is_told_with_its_cause_and_the_exit_code_is_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: Sequence[Ask]) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("sotto.engines.build", lambda *_: FakeEngine(fault=breaks))
    assert transcribe(*speech(folder, "a.ogg"), "--format", "srt") == 1
    err = capsys.readouterr().err
    assert "a.ogg: internal" in err
    assert "ZeroDivisionError: by nothing" in err
    assert below(folder) == ["a.ogg"]


# Printed


def test_without_formats_the_text_is_printed_and_nothing_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(*speech(folder, "a.ogg")) == 0
    assert capsys.readouterr().out.strip()
    assert below(folder) == ["a.ogg"]


def test_a_translation_takes_the_place_of_the_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = speech(folder, "a.ogg")
    transcribe(*files)
    text = capsys.readouterr().out
    assert transcribe(*files, "--translate") == 0
    assert capsys.readouterr().out.split() == text.upper().split()


def test_flags_for_the_model_go_with_any_engine(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--device", "cpu", "--download", "--model", "tiny", "--language", "en"]
    assert transcribe(*speech(folder, "a.ogg"), *flags) == 0
    assert capsys.readouterr().out.strip()


def test_warnings_are_told_by_the_name_of_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--option", "beam_size=1", "--option", "patience=2"]
    assert transcribe(*speech(folder, "a.ogg"), *options) == 0
    told = capsys.readouterr().err
    assert "a.ogg: warning: patience: only acts in beam search at temperature 0" in told


def test_options_act(folder: Path) -> None:
    files = speech(folder, "a.ogg")
    assert transcribe(*files, "--format", "json") == 0
    assert "words" in json.loads((folder / "a.json").read_text())["segments"][0]
    options = ["without_timestamps=true", 'vad_parameters={"threshold": 0.4}', "beam_size=1"]
    flags = [part for option in options for part in ("--option", option)]
    assert transcribe(*files, "--format", "json", *flags) == 0
    (whole_window,) = json.loads((folder / "a.json").read_text())["segments"]
    assert "words" not in whole_window


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("initial_prompt=1984", "1984"),
        ("initial_prompt=null", None),
        ('initial_prompt="1984"', "1984"),
        ("hotwords=Infinity", "Infinity"),
        ("hotwords=true", "true"),
        ("hotwords=007", "007"),
        ("clip_timestamps=1", "1"),
        ("clip_timestamps=1e0", "1e0"),
        ("clip_timestamps=null", "0"),
        ("clip_timestamps=[1, 2.5]", [1.0, 2.5]),
        ("suppress_tokens=5", 5),
        ("suppress_tokens=5,7", "5,7"),
        ("temperature=0.5", 0.5),
        ("word_timestamps=true", True),
        ("max_new_tokens=3", 3),
    ],
)
def test_a_value_that_looks_like_a_number_is_text_where_an_option_takes_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, read: object
) -> None:
    asked: list[Request] = []
    monkeypatch.setattr("sotto.files.parse", lambda given: asked.append(parse(given)) or asked[-1])
    assert transcribe(*speech(folder, "a.ogg"), "--option", given) == 0
    assert getattr(asked[-1].options, given.partition("=")[0]) == read


# Written


def test_all_formats_are_written_beside_the_audio_and_can_be_read_back(folder: Path) -> None:
    files = speech(folder, "talk.v1.ogg")
    assert transcribe(*files, "--format", "srt,VTT, txt,json,tsv") == 0
    written = ["json", "srt", "tsv", "txt", "vtt"]
    assert below(folder) == sorted(["talk.v1.ogg", *(f"talk.v1.{end}" for end in written)])
    text = (folder / "talk.v1.txt").read_text().split()
    cues = list(srt.parse((folder / "talk.v1.srt").read_text()))
    captions = webvtt.read(folder / "talk.v1.vtt").captions
    segments = json.loads((folder / "talk.v1.json").read_text())["segments"]
    rows = (folder / "talk.v1.tsv").read_text().splitlines()[1:]
    assert " ".join(cue.content for cue in cues).split() == text
    assert " ".join(caption.text for caption in captions).split() == text
    assert "".join(segment["text"] for segment in segments).split() == text
    assert " ".join(row.split("\t")[2] for row in rows).split() == text


def test_the_width_of_lines_acts_in_subtitles_and_is_refused_without_any(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = speech(folder, "a.ogg")
    flags = ["--option", "max_line_width=10", "--option", "max_line_count=1"]
    assert transcribe(*files, "--format", "txt", *flags) == 1
    assert capsys.readouterr().err.startswith("max_line_width: goes with the formats srt and vtt")
    assert transcribe(*files, "--format", "txt,vtt", *flags) == 0
    lines = [caption.text for caption in webvtt.read(folder / "a.vtt").captions]
    assert all(len(line) <= 10 for line in lines)
    assert " ".join(lines).split() == (folder / "a.txt").read_text().split()


def test_a_folder_is_transcribed_and_equal_names_do_not_overwrite_each_other(
    folder: Path,
) -> None:
    speech(folder, "in/a.ogg", "in/a.wav", "in/deep/a.ogg", "in/notes.txt")
    out = folder / "out" / "new"
    assert transcribe(folder / "in", "--format", "txt", "--output-dir", out) == 0
    assert below(out) == ["a.ogg.txt", "a.txt", "a.wav.txt"]
    assert below(folder / "in") == ["a.ogg", "a.wav", "deep/a.ogg", "notes.txt"]


def test_two_names_of_one_folder_do_not_overwrite_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech(folder, "a.ogg", "a.wav")
    monkeypatch.chdir(folder)
    assert transcribe("a.ogg", folder / "a.wav", "--format", "txt") == 0
    assert below(folder) == ["a.ogg", "a.txt", "a.wav", "a.wav.txt"]


def test_the_transcript_of_silence_is_an_empty_valid_file(folder: Path) -> None:
    silence = b"RIFF\x24\x7d\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00"
    silence += b"\x00\x7d\x00\x00\x02\x00\x10\x00data\x00\x7d\x00\x00" + bytes(32_000)
    (folder / "silence.wav").write_bytes(silence)
    assert transcribe(folder / "silence.wav", "--format", "srt,vtt,json") == 0
    assert (folder / "silence.srt").read_text() == ""
    assert (folder / "silence.vtt").read_text() == "WEBVTT\n"
    assert json.loads((folder / "silence.json").read_text()) == {"segments": []}


def test_any_file_of_the_persons_own_may_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOTTO_AUDIO_ROOTS", "/runpod-volume")
    assert transcribe(*speech(folder, "ünïcode, 'quotes' & 日本.ogg"), "--format", "txt") == 0
    assert (folder / "ünïcode, 'quotes' & 日本.txt").is_file()


# Addresses


def test_an_address_is_transcribed_into_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    monkeypatch.chdir(folder)
    headers = 'audio_headers={"X-Key": "sesame"}'
    with FileServer() as server:
        server.answers["/talks/one.ogg"] = [whole(SPEECH.read_bytes(), content_type="audio/ogg")]
        server.answers["/talks/two.ogg"] = [status(404)]
        urls = [server.url("/talks/one.ogg?key=1"), server.url("/talks/two.ogg?key=sesame")]
        assert transcribe(*urls, "--format", "srt", "--option", headers) == 1
        assert server.requests[0][1]["X-Key"] == "sesame"
    err = capsys.readouterr().err
    assert "two.ogg: " in err
    assert "404" in err
    assert "sesame" not in err
    assert below(folder) == ["one.srt"]


def test_an_address_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe("http://[::1") == 1
    assert capsys.readouterr().err == "http://[::1: not an address\n"


def test_an_address_inside_the_network_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe("http://127.0.0.1:9/talk.ogg") == 1
    err = capsys.readouterr().err
    assert "talk.ogg: " in err
    assert "Traceback" not in err


# In a process of its own


def sotto(*args: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sotto", *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_version_is_told(folder: Path) -> None:
    done = sotto("--version", cwd=folder)
    assert (done.returncode, done.stdout) == (0, f"sotto {__version__}\n")


def test_as_a_program_it_says_what_failed_and_exits_with_1(folder: Path) -> None:
    (folder / "bad.wav").write_text("no audio")
    speech(folder, "good.ogg")
    done = sotto("transcribe", "good.ogg", "bad.wav", cwd=folder)
    assert done.returncode == 1
    assert done.stdout.strip()
    assert "bad.wav: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.model
def test_a_real_voice_is_written_as_subtitles(weights: Path, folder: Path) -> None:
    shutil.copyfile(clip("en-dashwood").path, folder / "dashwood.ogg")
    environ = {"SOTTO_ENGINE": "whisper", "SOTTO_WEIGHTS_DIR": str(weights)}
    done = sotto("transcribe", "dashwood.ogg", "--format", "srt", cwd=folder, **environ)
    assert done.returncode == 0, done.stderr
    cues = list(srt.parse((folder / "dashwood.srt").read_text()))
    assert "Dashwood" in " ".join(cue.content for cue in cues)
    assert all(cue.start < cue.end for cue in cues)


def test_a_command_loads_nothing_that_another_one_needs() -> None:
    code = """
import sys
from sotto import cli
heavy = {"aiohttp", "av", "ctranslate2", "faster_whisper", "numpy", "onnxruntime", "requests"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
