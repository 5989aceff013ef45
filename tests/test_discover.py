"""Discovery: which files come out, in which order, and what is left out or refused."""

import inspect
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgemma_cli.discover import Discovery, check_output_folder, expand, printable, read_list
from medgemma_cli.errors import NoInputError, UsageError
from medgemma_cli.records import Source

KINDS = frozenset({".md", ".txt"})


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Whatever would block on a FIFO is interrupted and fails."""

    def stop(*_: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An empty input folder."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def put(folder: Path, *names: str) -> None:
    """Make small files, with the folders they need."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.encode("utf-8", "backslashreplace").decode())


def found(*paths: object, **options: object) -> list[Source]:
    """Everything that a discovery of these paths yields."""
    return list(Discovery([str(path) for path in paths], KINDS, **options))  # type: ignore[arg-type]


def names(*paths: object, **options: object) -> list[str]:
    """The relative names that a discovery of these paths yields."""
    return [source.relative for source in found(*paths, **options)]


# -- order and selection -----------------------------------------------------------------------


def test_order_depends_on_the_names_alone(inbox: Path) -> None:
    """Files come out sorted by the bytes of their names, whatever order they were made in."""
    put(inbox, "z.md", "b/2.txt", "a.md", "b/1.txt", "B.md", "é.md", "b.md")
    assert names(inbox) == ["B.md", "a.md", "b/1.txt", "b/2.txt", "b.md", "z.md", "é.md"]


def test_iterating_twice_gives_the_same_stream_and_counts_afresh(inbox: Path) -> None:
    """A second pass yields equal sources, and `skipped` is not added up."""
    put(inbox, "a.md", "b.pdf")
    discovery = Discovery([str(inbox)], KINDS)
    first = list(discovery)
    assert list(discovery) == first
    assert discovery.skipped == {".pdf": 1}


def test_several_paths_keep_the_order_of_the_command_line(inbox: Path) -> None:
    """The first PATH argument comes first."""
    put(inbox, "x/1.md", "y/2.md")
    assert names(inbox / "y", inbox / "x") == ["2.md", "1.md"]


def test_suffixes_are_matched_in_any_case(inbox: Path) -> None:
    """`A.MD` and `b.Txt` are of kinds that are read."""
    put(inbox, "A.MD", "b.Txt")
    assert names(inbox) == ["A.MD", "b.Txt"]


def test_hidden_files_and_folders_are_left_out_uncounted(inbox: Path) -> None:
    """A leading dot hides a file and all that is in a folder."""
    put(inbox, ".hidden.md", ".git/a.md", "seen.md")
    discovery = Discovery([str(inbox)], KINDS)
    assert [source.relative for source in discovery] == ["seen.md"]
    assert not discovery.skipped


def test_other_kinds_are_counted_by_suffix(inbox: Path) -> None:
    """Kinds that are not read cost nothing but a count."""
    put(inbox, "1.pdf", "2.PDF", "3.xyz", "README", "a.md")
    discovery = Discovery([str(inbox)], KINDS)
    assert [source.relative for source in discovery] == ["a.md"]
    assert discovery.skipped == {".pdf": 2, ".xyz": 1, "without suffix": 1}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["*.md"]}, ["a.md", "sub/b.md"]),
        ({"include": ["sub/*"]}, ["sub/b.md", "sub/c.txt"]),
        ({"include": ["b.md"]}, ["sub/b.md"]),
        ({"exclude": ["*.txt"]}, ["a.md", "sub/b.md"]),
        ({"exclude": ["sub/*"]}, ["a.md", "d.txt"]),
        ({"include": ["*.md"], "exclude": ["a*"]}, ["sub/b.md"]),
        ({"include": ["*.pdf"]}, []),
        ({"limit": 2}, ["a.md", "d.txt"]),
        ({"limit": 0}, []),
        ({"limit": 99}, ["a.md", "d.txt", "sub/b.md", "sub/c.txt"]),
    ],
)
def test_include_exclude_and_limit(
    inbox: Path, options: dict[str, object], expected: list[str]
) -> None:
    """Patterns match the relative path or the bare name; exclusion wins; the limit cuts."""
    put(inbox, "a.md", "d.txt", "sub/b.md", "sub/c.txt")
    assert names(inbox, **options) == expected


def test_include_applies_to_files_named_outright(inbox: Path) -> None:
    """A pattern that does not match leaves out a named file, too."""
    put(inbox, "a.md", "b.md")
    assert names(inbox / "a.md", inbox / "b.md", include=["b*"]) == ["b.md"]


# -- globs -------------------------------------------------------------------------------------


def test_a_glob_matches_sorted_and_never_hidden(inbox: Path) -> None:
    """The tool expands a quoted glob itself."""
    put(inbox, "b.md", "a.md", ".c.md", "d.txt")
    assert names(inbox / "*.md") == ["a.md", "b.md"]


def test_a_file_that_bears_the_name_of_a_glob_is_that_file(inbox: Path) -> None:
    """Brackets in a name that exists are not a pattern."""
    put(inbox, "note[1].md", "note1.md")
    assert names(inbox / "note[1].md") == ["note[1].md"]
    assert expand(str(inbox / "note[1].md")) == [str(inbox / "note[1].md")]


def test_a_recursive_glob_yields_every_file_once(inbox: Path) -> None:
    """`**` matches folders and their files: each file is one document all the same."""
    put(inbox, "a.md", "sub/b.md")
    origins = [source.origin for source in found(inbox / "**")]
    assert sorted(origins) == [str(inbox / "a.md"), str(inbox / "sub" / "b.md")]


# -- links, loops, special files ---------------------------------------------------------------


def test_a_symlinked_file_is_skipped_unless_named(inbox: Path, tmp_path: Path) -> None:
    """Fault 29: a link in a folder is counted, not read; named outright it is followed."""
    put(tmp_path, "elsewhere.md")
    (inbox / "link.md").symlink_to(tmp_path / "elsewhere.md")
    discovery = Discovery([str(inbox)], KINDS)
    assert list(discovery) == []
    assert discovery.skipped == {"symbolic link": 1}
    assert [(s.relative, s.error) for s in found(inbox / "link.md")] == [("link.md", None)]


def test_a_symlink_loop_is_skipped(inbox: Path) -> None:
    """Fault 30: a folder linked into itself is walked once."""
    put(inbox, "sub/a.md")
    (inbox / "sub" / "loop").symlink_to(inbox)
    assert names(inbox) == ["sub/a.md"]


def test_a_symlink_loop_met_by_a_glob_yields_every_file_once(inbox: Path) -> None:
    """Fault 30: `**` follows links; a loop must not multiply the documents."""
    put(inbox, "a.md")
    (inbox / "loop").symlink_to(inbox)
    assert names(inbox / "**" / "*.md") == ["a.md"]


def test_a_link_to_itself_named_outright_is_an_error_of_that_document(inbox: Path) -> None:
    """Fault 30: a link that leads nowhere comes out as vanished and stops nobody else."""
    (inbox / "self.md").symlink_to(inbox / "self.md")
    assert [s.error for s in found(inbox / "self.md")] == ["vanished"]


def test_a_symlinked_folder_is_skipped_unless_named(inbox: Path, tmp_path: Path) -> None:
    """Fault 31: files under a linked folder are read only when the link itself is named."""
    put(tmp_path / "far", "a.md")
    (inbox / "link").symlink_to(tmp_path / "far")
    assert names(inbox) == []
    assert names(inbox / "link") == ["a.md"]


def test_a_fifo_in_a_folder_is_skipped_without_hanging(inbox: Path) -> None:
    """Fault 32: a FIFO is counted as a special file and never opened."""
    os.mkfifo(inbox / "pipe.md")
    discovery = Discovery([str(inbox)], KINDS)
    assert list(discovery) == []
    assert discovery.skipped == {"special file": 1}


def test_a_fifo_or_device_named_outright_is_unsupported(inbox: Path) -> None:
    """Fault 32: naming a FIFO does not open it."""
    os.mkfifo(inbox / "pipe.md")
    assert [s.error for s in found(inbox / "pipe.md", "/dev/null")] == ["unsupported"] * 2


def test_a_deep_tree_is_walked_to_its_end(inbox: Path) -> None:
    """Folders nested deeper than Python's recursion limit cost no document and no traceback."""
    put(inbox, "d/" * 300 + "deep.md")
    limit = sys.getrecursionlimit()
    # In proportion: a path may hold 2,000 folders, the usual limit is 1,000 calls.
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        found_names = names(inbox)
    finally:
        sys.setrecursionlimit(limit)
    assert [name.rpartition("/")[2] for name in found_names] == ["deep.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_counted(inbox: Path) -> None:
    """An unreadable folder is in `skipped`; its neighbours are read."""
    put(inbox, "closed/a.md", "b.md")
    (inbox / "closed").chmod(0)
    discovery = Discovery([str(inbox)], KINDS)
    try:
        assert [source.relative for source in discovery] == ["b.md"]
        assert discovery.skipped == {"unreadable folder": 1}
    finally:
        (inbox / "closed").chmod(0o700)


# -- lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../a.md", "sub/../a.md", "sub/../../a.md", "/x/../a.md"])
def test_a_parent_step_in_a_list_is_refused(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Fault 33: `..` in a listed name gives path_escape, whether the file is there or not."""
    put(inbox, "a.md", "sub/b.md")
    monkeypatch.chdir(inbox / "sub")
    assert [(s.relative, s.error) for s in found(files=[name])] == [(name, "path_escape")]


def test_dots_that_are_no_parent_step_are_fine(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 33: `a..b.md` and `./a.md` stay in their folder."""
    put(inbox, "a..b.md", "a.md")
    monkeypatch.chdir(inbox)
    listed = found(files=["a..b.md", "./a.md"])
    assert [(s.relative, s.error) for s in listed] == [("a..b.md", None), ("a.md", None)]


def test_a_listed_file_that_is_gone_has_vanished(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 27: a listed name with no file is its own document, failed: vanished."""
    put(inbox, "here.md")
    monkeypatch.chdir(inbox)
    listed = found(files=["gone.md", "here.md"])
    assert [(s.relative, s.error) for s in listed] == [("gone.md", "vanished"), ("here.md", None)]


def test_listed_files_keep_their_order_and_their_folders(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is taken as written, relative to the working folder."""
    put(inbox, "b/2.md", "a/1.md")
    monkeypatch.chdir(inbox)
    assert names(files=["b/2.md", "a/1.md"]) == ["b/2.md", "a/1.md"]


def test_absolute_listed_files_are_relative_to_the_working_folder_or_bare(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absolute name inside the working folder keeps its folders, one outside only its name."""
    put(inbox, "sub/1.md")
    put(tmp_path, "far/2.md")
    monkeypatch.chdir(inbox)
    listed = [str(inbox / "sub" / "1.md"), str(tmp_path / "far" / "2.md")]
    assert names(files=listed) == ["sub/1.md", "2.md"]


@pytest.mark.parametrize("name", ["a.pdf", "folder"])
def test_other_things_in_a_list_are_unsupported(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A kind that is not read, or a folder, is refused by name and not dropped."""
    put(inbox, "a.pdf", "folder/b.md")
    monkeypatch.chdir(inbox)
    assert [(s.relative, s.error) for s in found(files=[name])] == [(name, "unsupported")]


def test_a_list_separated_by_nul_is_an_error_of_the_document(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 27: what `find -print0` writes names no file; it must not end the run."""
    put(inbox, "a.md", "b.md")
    monkeypatch.chdir(inbox)
    assert [s.error is None for s in found(files=["a.md\0b.md\0", "b.md"])] == [False, True]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a.md\n", "b.md\r\n", "c.md"], ["a.md", "b.md", "c.md"]),
        (["\n", "  \n", "# a comment\n", "a.md\n"], ["a.md"]),
        ([" a b .md\n"], [" a b .md"]),
        (["x#1.md\n"], ["x#1.md"]),
        ([], []),
    ],
)
def test_read_list(lines: list[str], expected: list[str]) -> None:
    """One name a line; blanks and comments go, spaces inside a name stay."""
    assert read_list(lines) == expected


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\nb.md", "a\x1b[31mb.md", "a\tb.md", 'a"b.md'])
def test_control_characters_in_a_name_are_read_as_any_other(inbox: Path, name: str) -> None:
    """Fault 34: a newline or ESC in a name costs nothing; the path opens."""
    put(inbox, name)
    (source,) = found(inbox)
    assert source.error is None
    assert source.relative == name
    assert source.path.is_file()


def test_a_name_that_is_not_utf_8_keeps_its_bytes_and_can_be_shown(inbox: Path) -> None:
    """Fault 35: the path opens, and the relative name is text that UTF-8 can hold."""
    path = os.fsencode(inbox) + b"/Se\xf1ora.md"
    with open(path, "w") as file:
        file.write("x")
    (source,) = found(inbox)
    assert source.path.read_text() == "x"
    assert source.relative == r"Se\xf1ora.md"
    assert source.origin.encode().endswith(rb"/Se\xf1ora.md")


def test_printable_leaves_good_names_alone() -> None:
    """Fault 35: only undecodable bytes are escaped."""
    assert printable("Señora/メモ.md") == "Señora/メモ.md"
    assert printable(os.fsdecode(b"\xff/a")) == r"\xff/a"


def test_a_byte_and_its_escape_are_two_files(inbox: Path) -> None:
    """Fault 35: a name of byte FF and a name that spells backslash-xff are both read."""
    put(inbox, r"\xff.md", "other/a.md")
    with open(os.fsencode(inbox) + b"/\xff.md", "w") as file:
        file.write("x")
    paths = {s.path for s in found(inbox, inbox / "other" / "a.md")}
    assert len(paths) == 3


def test_unicode_and_case_twins_are_two_files(inbox: Path) -> None:
    """Faults 37 and 38: NFC and NFD, upper and lower case, stay apart where the disk does."""
    twins = ["A.md", "a.md", "é.md", unicodedata.normalize("NFD", "é.md")]
    put(inbox, *twins)
    if len(os.listdir(inbox)) < len(twins):
        pytest.skip("this file system folds names")
    assert sorted(names(inbox)) == sorted(twins)


# -- the output folder -------------------------------------------------------------------------


def test_an_output_folder_inside_the_input_is_not_read(inbox: Path) -> None:
    """Fault 41: OUT inside a folder is passed over, and only OUT."""
    put(inbox, "a.md", "out/a.md", "out/sub/b.md", "other/out/c.md")
    assert names(inbox, out=inbox / "out") == ["a.md", "other/out/c.md"]


def test_an_output_folder_given_through_a_link_is_not_read(inbox: Path, tmp_path: Path) -> None:
    """Fault 41: the real place of OUT counts, not how it was written."""
    put(inbox, "a.md", "out/a.md")
    (tmp_path / "link").symlink_to(inbox / "out")
    assert names(inbox, out=tmp_path / "link") == ["a.md"]


@pytest.mark.parametrize("pattern", ["*", "*/*.md", "**/*.md"])
def test_a_glob_does_not_read_the_output_folder(inbox: Path, pattern: str) -> None:
    """Fault 41: summaries are not ingested through a pattern either."""
    put(inbox, "a.md", "sub/b.md", "out/a.md")
    sources = found(inbox / pattern, inbox / "a.md", out=inbox / "out")
    assert [s.origin for s in sources if "/out/" in s.origin] == []


def test_a_list_does_not_read_the_output_folder(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 41: a list made with `find` holds the last run's summaries; they are not read."""
    put(inbox, "a.md", "out/a.md")
    monkeypatch.chdir(inbox)
    sources = found(files=["a.md", "out/a.md"], out=inbox / "out")
    assert [s.relative for s in sources if s.error is None] == ["a.md"]


@pytest.mark.parametrize("pattern", ["*", "**/*.md"])
def test_a_glob_beside_its_output_folder_may_run_twice(inbox: Path, pattern: str) -> None:
    """Fault 97: once OUT exists, the pattern that now matches it too is still no usage error."""
    put(inbox, "a.md")
    check_output_folder([str(inbox / pattern)], inbox / "out")
    put(inbox, "out/a.md")
    check_output_folder([str(inbox / pattern)], inbox / "out")


@pytest.mark.parametrize("out", ["inbox", ".", "inbox/../inbox", "link"])
def test_out_at_or_above_an_input_is_a_usage_error(inbox: Path, tmp_path: Path, out: str) -> None:
    """Fault 97: OUT equal to an input folder, or above one, also through a link, is exit 2."""
    (tmp_path / "link").symlink_to(inbox)
    with pytest.raises(UsageError) as caught:
        check_output_folder([str(inbox)], tmp_path / out)
    assert caught.value.exit_code == 2


def test_out_above_a_named_file_is_a_usage_error(inbox: Path) -> None:
    """Fault 97: the folder of a named file lies above that input."""
    put(inbox, "a.md")
    with pytest.raises(UsageError):
        check_output_folder([str(inbox / "a.md")], inbox)


@pytest.mark.parametrize("out", ["inbox/out", "inbox-out", "out", "inbo"])
def test_out_inside_or_beside_an_input_is_fine(inbox: Path, tmp_path: Path, out: str) -> None:
    """Fault 97: only the same folder or one above is refused; a longer name is another folder."""
    check_output_folder([str(inbox), "-", str(inbox / "none*")], tmp_path / out)


# -- nothing there, duplicates, standard input -------------------------------------------------


@pytest.mark.parametrize("path", ["missing", "missing.md", "*.none", ""])
def test_nothing_at_a_path_is_no_input(inbox: Path, path: str) -> None:
    """Fault 42: a path or glob with nothing behind it is exit 66."""
    with pytest.raises(NoInputError) as caught:
        found(f"{inbox}/{path}" if path else "")
    assert caught.value.exit_code == 66


def test_an_empty_folder_yields_nothing(inbox: Path) -> None:
    """Fault 42: an existing folder without documents is an empty stream."""
    put(inbox, "a.pdf")
    assert found(inbox) == []


def test_a_missing_path_is_named_without_raw_control_characters(inbox: Path) -> None:
    """Fault 93: the message about a path that is not there carries no escape sequence."""
    with pytest.raises(NoInputError) as caught:
        found(inbox / "a\x1b]52;c;x\x07.md")
    assert caught.value.message.isprintable()


def test_a_named_file_of_another_kind_is_unsupported(inbox: Path) -> None:
    """Named outright, a kind that is not read is rejected and not merely counted."""
    put(inbox, "scan.pdf")
    assert [(s.relative, s.error) for s in found(inbox / "scan.pdf")] == [
        ("scan.pdf", "unsupported")
    ]


def test_what_is_named_twice_comes_once(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a file in it, the same in other words and in a list: one document."""
    put(inbox, "a.md", "b.md")
    monkeypatch.chdir(inbox)
    assert names(inbox, "a.md", "./a.md", inbox / "*.md", files=["b.md"]) == ["a.md", "b.md"]


def test_the_same_name_in_two_folders_is_two_documents(inbox: Path) -> None:
    """Fault 99: two roots with the same relative path are two sources with their own origin."""
    put(inbox, "x/a.md", "y/a.md")
    sources = found(inbox / "x", inbox / "y")
    assert [s.relative for s in sources] == ["a.md", "a.md"]
    assert len({s.origin for s in sources}) == 2


def test_standard_input_is_a_source_of_its_own() -> None:
    """`-` is not looked up on the disk."""
    assert [(s.relative, s.origin, s.error) for s in found("-")] == [("-", "-", None)]
