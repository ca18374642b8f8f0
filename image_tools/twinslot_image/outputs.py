"""The one way in which this tool writes a file.

A regular file appears under its name whole or not at all, and replaces what stands there only when that is of the same
kind, or with '--force'. It keeps the mode of what it replaces; a new one gets what the umask leaves. Hard links to the
old file keep the old content. Devices, pipes and sockets are written to and never replaced (`output_place`). Whatever
ends the program but SIGKILL removes the temporary files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from twinslot.core.errors import Refusal, RefusedError
from twinslot_image.file_lock import locked, put_in_place
from twinslot_image.named_file import naming
from twinslot_image.output_place import OutputPlace, cannot_write, find_place, names_directory, open_stream
from twinslot_image.replacement import beside, sync
from twinslot_image.stop import undisturbed

Judge = Callable[[BinaryIO], str | None]  # why what stands there may not be replaced; None: it may


def anything(_file: BinaryIO) -> str | None:
    """Whatever stands there may be replaced."""
    return None


class Target:
    """One output of a verb. Made before the work begins, so that what would fail at the end fails at once.

    Use as a context manager: a directory that was named for the output is made at the start, and removed on an error.

    Args:
        given: A file, or `-` for standard output.
        replaces: Judges what stands there; an empty file may always be replaced.
        inputs: What the output is made from; it must be none of these, whatever names and links lead there.
        force: Replace whatever stands there, but no input.
        name: Of the file in a directory; without, `given` must be a file. A path that ends with a slash is a directory.

    Raises:
        DeviceError: `device.output`: it cannot be written to.
        RefusedError: `refused.output-exists` or `refused.output-is-input`.
    """

    def __init__(
        self,
        given: str | Path,
        replaces: Judge = anything,
        *,
        inputs: Iterable[Path] = (),
        force: bool = False,
        name: str | None = None,
    ) -> None:
        self._given, self._inputs = os.fspath(given), tuple(inputs)
        self._judge = anything if force else replaces
        self._made: list[Path] = []
        self._directory: Path | None = None
        self._place: OutputPlace | None = None
        if name is not None and names_directory(self._given):
            self._directory = Path(self._given)
            if self._directory.is_dir():
                self.rename(name)
            self._name = name
        else:
            self._find(self._given)

    @property
    def path(self) -> Path:
        """What the user calls it."""
        return Path(self._found_place.given)

    @property
    def folder(self) -> Path:
        """Where temporary files may lie: beside the output, or the system's directory for those."""
        if self._directory:
            return self._directory
        return Path(tempfile.gettempdir()) if self._found_place.stream else self._found_place.path.parent

    @property
    def on_standard_output(self) -> bool:
        """The output goes where messages for people would."""
        return self._found_place.on_standard_output

    def rename(self, name: str) -> None:
        """Another name, as long as it is in a directory that was given; else nothing changes."""
        if self._directory:
            self._find(str(self._directory / name))

    def __enter__(self) -> Self:
        if self._directory and not self._directory.is_dir():
            with undisturbed():
                self._make_directory(self._directory)
            self.rename(self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with undisturbed(), suppress(OSError):
                for directory in reversed(self._made):
                    directory.rmdir()

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """The output as a file to write to; when the block ends well it stands under its name."""
        place = self._found_place
        if place.stream:
            with naming(place.given), open_stream(place) as stream:
                yield stream
                stream.flush()
            return
        with beside(place) as (sink, made):
            yield sink
            sync(sink)
            self._put(made, place)

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """The same for programs that open a file by its name and leave holes; it is there, empty.

        Raises:
            DeviceError: `device.output`: a device or a pipe.
        """
        place = self._found_place
        if place.stream:
            raise cannot_write(place.given, "a device or a pipe", expected="the name of a file; copy it with 'dd' then")
        with beside(place) as (sink, made):
            yield made
            sync(sink)
            self._put(made, place)

    @property
    def _found_place(self) -> OutputPlace:
        assert self._place, "the directory is made by entering"
        return self._place

    def _find(self, given: str) -> None:
        self._place = place = find_place(given)
        for path in self._inputs:
            with suppress(OSError):
                if not place.stream and place.path.exists() and path.samefile(place.path):
                    what = f"'{given}' is both an input and the output"
                    raise RefusedError(Refusal("output-is-input", what, found=str(path), hint="name another output"))
        if not place.stream and place.path.exists():
            if not os.access(place.path, os.W_OK):
                raise cannot_write(given, "a file without write permission")
            with place.path.open("rb") as file:
                self._allow(file, place)

    def _allow(self, file: BinaryIO, place: OutputPlace) -> None:
        if os.fstat(file.fileno()).st_size and (found := self._judge(file)):
            hint = "name another output, or replace it with '--force'"
            raise RefusedError(Refusal("output-exists", f"'{place.given}' is there already", None, found, hint))

    def _put(self, made: Path, place: OutputPlace) -> None:
        """Judge again under the lock: what is there now may be another's work of the last minute."""
        while True:
            try:
                with locked(place.path) as file:
                    self._allow(file, place)
                    put_in_place(made, place, fresh=False)
                    return
            except FileNotFoundError:
                with suppress(FileExistsError):
                    put_in_place(made, place, fresh=True)
                    return

    def _make_directory(self, directory: Path) -> None:
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            try:
                path.mkdir()
            except OSError as e:
                raise cannot_write(self._given, e.strerror or e) from e
            self._made.append(path)
