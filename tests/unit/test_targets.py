"""What a person names, and where its transcripts go."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sotto.targets import AUDIO, Target, TargetError, find_targets, save


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return [str(folder / name) for name in names]


def stems(found: list[Target]) -> list[Path]:
    return [target.stem for target in found]


# Bad input


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"nothing\.wav: no such file or folder"):
        find_targets([str(tmp_path / "nothing.wav")], None)


def test_a_name_that_cannot_be_looked_up_is_told_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"aaa\.wav: File name too long$"):
        find_targets([str(tmp_path / f"{'a' * 300}.wav")], None)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(TargetError, match=r"loop\.wav: Too many levels of symbolic links$"):
        find_targets([str(tmp_path / "loop.wav")], None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_a_folder_that_may_not_be_entered_is_told_with_the_reason(tmp_path: Path) -> None:
    names = touch(tmp_path, "closed/a.wav")
    (tmp_path / "closed").chmod(0)
    try:
        for path in (*names, str(tmp_path / "closed")):
            with pytest.raises(TargetError, match=f"^{path}: Permission denied$"):
                find_targets([path], None)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_without_audio_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "deep/er/notes.md")
    with pytest.raises(TargetError, match=f"{tmp_path}: no audio file in this folder"):
        find_targets([str(tmp_path)], None)


def test_one_wrong_name_stops_the_whole_command_line(tmp_path: Path) -> None:
    good = touch(tmp_path, "a.wav")
    with pytest.raises(TargetError, match="no such file"):
        find_targets([*good, str(tmp_path / "b.wav")], None)


@pytest.mark.parametrize(
    "url", ["http://", "https:///", "http://[::1", "http://?x", "https://#", "HTTP://"]
)
def test_an_address_without_a_host_is_told(url: str) -> None:
    with pytest.raises(TargetError, match="not an address"):
        find_targets([url], None)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_address_is_a_file_name_or_a_readable_error(text: str) -> None:
    try:
        (target,) = find_targets([f"https://{text}"], Path("/out"))
    except TargetError:
        return
    assert target.stem.parent == Path("/out")
    assert target.name.isprintable()


# Files, folders, addresses


def test_files_and_folders_keep_their_order(tmp_path: Path) -> None:
    touch(tmp_path, "z.wav", "folder/b.mp3", "folder/A.OGG", "folder/x.txt", "folder/in/c.mkv")
    inputs = [str(tmp_path / "z.wav"), str(tmp_path / "folder")]
    names = [target.name for target in find_targets(inputs, None)]
    assert names == ["z.wav", "A.OGG", "b.mp3", "c.mkv"]


def test_a_file_named_itself_is_tried_whatever_its_ending(tmp_path: Path) -> None:
    (target,) = find_targets(touch(tmp_path, "recording.bin"), None)
    assert target.source == {"audio_path": str(tmp_path / "recording.bin")}
    assert target.path == tmp_path / "recording.bin"


def test_a_folder_called_like_audio_is_searched_and_not_taken_for_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "album.wav/one.flac")
    assert [target.name for target in find_targets([str(tmp_path)], None)] == ["one.flac"]


def test_what_cannot_be_looked_up_within_a_folder_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "deep/b.wav")
    (tmp_path / "long.wav").symlink_to("x" * 300)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "lost.wav").symlink_to("nowhere.wav")
    names = [target.name for target in find_targets([str(tmp_path)], None)]
    assert names == ["a.wav", "b.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_a_closed_folder_within_a_folder_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "closed/b.wav", "listed/c.wav")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "listed").chmod(0o400)
    try:
        assert [target.name for target in find_targets([str(tmp_path)], None)] == ["a.wav"]
    finally:
        for name in ("closed", "listed"):
            (tmp_path / name).chmod(0o700)


def test_a_relative_file_is_read_by_its_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.wav")
    monkeypatch.chdir(tmp_path)
    (target,) = find_targets(["a.wav"], None)
    assert target.source == {"audio_path": str(tmp_path / "a.wav")}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host.example/path/talk.mp3?token=secret#t=1", "talk.mp3"),
        ("HTTP://host.example/%C3%BC%20b.ogg", "ü b.ogg"),
        ("https://host.example/a%2Fb%2Fc.wav", "c.wav"),
        ("https://host.example/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://host.example/nul%00line%0A.wav", "nul_line_.wav"),
        ("https://host.example", "host.example"),
        ("https://anna:geheim@host.example:8443/", "host.example"),
        ("https://[2001:db8::1]/", "2001:db8::1"),
    ],
)
def test_an_address_is_named_by_the_end_of_its_path_or_its_host(url: str, name: str) -> None:
    (target,) = find_targets([url], Path("/out"))
    assert target.name == name
    assert target.source == {"audio": url}
    assert target.path is None
    assert target.stem.parent == Path("/out")


def test_every_ending_searched_for_is_lower_case_with_a_dot() -> None:
    assert all(ending.startswith(".") and ending == ending.lower() for ending in AUDIO)


# Where to write


def test_transcripts_lie_beside_the_audio(tmp_path: Path) -> None:
    found = find_targets(touch(tmp_path, "x/a.wav", "y/a.wav"), None)
    assert stems(found) == [tmp_path / "x" / "a", tmp_path / "y" / "a"]


def test_transcripts_of_addresses_lie_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert stems(find_targets(["https://host.example/talk.mp3"], None)) == [tmp_path / "talk"]


def test_the_same_stem_is_never_taken_twice(tmp_path: Path) -> None:
    files = touch(tmp_path, "x/a.wav", "x/a.mp3", "y/a.mp3", "y/a.wav", "z/a.mp3")
    found = stems(find_targets(files, tmp_path / "out"))
    assert [stem.name for stem in found] == ["a", "a.mp3", "a.mp3-2", "a.wav", "a.mp3-3"]
    assert {stem.parent for stem in found} == {tmp_path / "out"}


def test_one_folder_under_two_names_is_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "x/a.wav", "x/a.mp3", "x/a.ogg")
    (tmp_path / "link").symlink_to("x")
    monkeypatch.chdir(tmp_path / "x")
    inputs = ["a.wav", str(tmp_path / "x" / "a.mp3"), "../link/a.ogg"]
    assert len(set(stems(find_targets(inputs, None)))) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "x/", "y/"]),
            st.sampled_from(["a", "a.mp3", "a.mp3-2", ".hidden", "a.wav"]),
            st.sampled_from([".wav", ".mp3", ""]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_no_two_targets_write_one_file(
    tmp_path: Path, parts: list[tuple[str, str, str]], together: bool
) -> None:
    inputs = [f"https://host.example/{''.join(part)}" for part in parts]
    found = stems(find_targets(inputs, tmp_path if together else None))
    assert len(set(found)) == len(inputs)


# Writing


def target_in(folder: Path, stem: str = "talk.v1") -> Target:
    return Target("talk.v1.wav", {}, None, folder / stem)


def test_a_file_is_written_whole_with_its_folder(tmp_path: Path) -> None:
    written = save(target_in(tmp_path / "new" / "folder"), "srt", "Ünïcode 日本\n")
    assert written == tmp_path / "new" / "folder" / "talk.v1.srt"
    assert written.read_bytes() == "Ünïcode 日本\n".encode()
    assert [path.name for path in written.parent.iterdir()] == ["talk.v1.srt"]


def test_an_older_transcript_is_replaced(tmp_path: Path) -> None:
    for text in ("old and long", "new"):
        save(target_in(tmp_path), "txt", text)
    assert (tmp_path / "talk.v1.txt").read_text() == "new"


def test_what_cannot_be_encoded_leaves_the_older_transcript_and_no_half(tmp_path: Path) -> None:
    save(target_in(tmp_path), "txt", "old")
    with pytest.raises(UnicodeEncodeError):
        save(target_in(tmp_path), "txt", "new \ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["talk.v1.txt"]
    assert (tmp_path / "talk.v1.txt").read_text() == "old"


def test_a_full_disk_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str, **options: object) -> None:
        path.write_bytes(text.encode()[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        save(target_in(tmp_path), "txt", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match="out"):
        save(target_in(tmp_path / "out"), "txt", "new")
