"""The report of what is read: what it holds, where it goes, and its methods to paste."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QGuiApplication
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce
from napari_metaqsm.plugin.dock import status_label
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Told
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.findings import Finding, find_in
from napari_metaqsm.reading.regions import RegionMeasures
from napari_metaqsm.reading.spots import Spot
from napari_metaqsm.reading.study import Study
from napari_metaqsm.report.content import DEFAULT_TITLE, PARTS, Report, Wishes, make_report
from napari_metaqsm.report.folder import files_of, write_report
from napari_metaqsm.report.methods_text import Methods, methods_of

MIDDLE, HERE = "middle", "here"
_SLICES = {MIDDLE: "Through the middle of the maps", HERE: "Where the viewer stands"}
_COMMENT_LINES = 4
_NO_MAP = "no map is chosen; make or open a susceptibility map first"


class Parts(NamedTuple):
    """What other panels have measured, as a report takes it; findings of None are looked for anew."""

    regions: RegionMeasures | None = None
    spots: Sequence[Spot] = ()
    findings: Sequence[Finding] | None = None
    window_ppm: tuple[float, float] = (-0.1, 0.1)
    unit: str = "ppm"


class ReportPanel(QWidget):
    """What a report says and shows, and the buttons that write or copy it.

    Parameters
    ----------
    parts : asked when a report is made, for what the other panels hold
    """

    def __init__(self, desk: Desk, parts: Callable[[], Parts] = Parts) -> None:
        super().__init__()
        self.desk = desk
        self._parts = parts
        self.title = QLineEdit()
        self.title.setPlaceholderText(DEFAULT_TITLE)
        self.title.setToolTip(
            "Printed as typed. A report names no patient and no file by itself; maps and regions are called "
            "as their layers are, so rename a layer that holds a name."
        )
        self.comment = QTextEdit()
        self.comment.setPlaceholderText("Printed as typed, below the title")
        self.comment.setAcceptRichText(False)
        self.comment.setTabChangesFocus(True)
        self.comment.setFixedHeight(_COMMENT_LINES * self.fontMetrics().lineSpacing() + 16)
        self.slices = QComboBox()
        for name, words in _SLICES.items():
            self.slices.addItem(words, name)
        self.slices.setToolTip("Where the three planes lie in which all maps are shown")
        keep_wheel_for_scrolling(self.slices)
        narrow(self.slices)
        self.included = {name: QCheckBox(words) for name, words in PARTS.items()}
        self.open_when_done = QCheckBox("Open it when it is done")
        self.open_when_done.setToolTip("Show report.html in the browser")
        self.report_button = QPushButton("Report…")
        self.report_button.setToolTip(
            "Write report.html, report.pdf, methods.txt and references.bib to a folder"
        )
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop making the report; nothing is written")
        self.methods_button = QPushButton("Copy methods")
        self.methods_button.setToolTip(
            "The paragraph of methods for exactly the steps that were run, with its references"
        )
        self.bibtex_button = QPushButton("Copy BibTeX")
        self.bibtex_button.setToolTip("The BibTeX entries of those references")
        self.status = status_label()
        self._lay_out()
        self._latest = Told("the report", self._say, self._on_written, self._on_progress, self._update)
        self.report_button.clicked.connect(self._ask_where)
        self.cancel_button.clicked.connect(self._latest.stop)
        self.methods_button.clicked.connect(self.copy_methods)
        self.bibtex_button.clicked.connect(self.copy_bibtex)
        desk.changed.connect(self._update)
        self._update()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Title", self.title)
        form.addRow("Comment", self.comment)
        form.addRow("Slices", self.slices)
        boxes = QGridLayout()
        for number, box in enumerate(self.included.values()):
            box.setChecked(True)
            boxes.addWidget(box, number // 2, number % 2)
        copies = QHBoxLayout()
        copies.addWidget(self.methods_button)
        copies.addWidget(self.bibtex_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(QLabel("Include"))
        layout.addLayout(boxes)
        layout.addWidget(self.open_when_done)
        writes = QHBoxLayout()
        writes.addWidget(self.report_button, 1)
        writes.addWidget(self.cancel_button)
        layout.addLayout(writes)
        layout.addLayout(copies)
        layout.addWidget(self.status)

    # ---------------------------------------------------------------------------- its choices
    def wishes(self) -> Wishes:
        """What is chosen, as the report takes it."""
        parts = self._parts()
        here = self.slices.currentData() == HERE
        return Wishes(
            self.title.text(),
            self.comment.toPlainText(),
            tuple(name for name, box in self.included.items() if box.isChecked()),
            parts.window_ppm,
            (self.desk.voxel,) if here else (),
            parts.unit,
        )

    def state(self) -> dict[str, Any]:
        """What is chosen, as plain values."""
        return {
            "title": self.title.text(),
            "comment": self.comment.toPlainText(),
            "slices": self.slices.currentData(),
            "parts": [name for name, box in self.included.items() if box.isChecked()],
            "open": self.open_when_done.isChecked(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Choose what :meth:`state` gave."""
        self.title.setText(str(state.get("title", "")))
        self.comment.setPlainText(str(state.get("comment", "")))
        self.slices.setCurrentIndex(max(self.slices.findData(state.get("slices")), 0))
        for name, box in self.included.items():
            box.setChecked(name in state.get("parts", PARTS))
        self.open_when_done.setChecked(bool(state.get("open")))

    # ---------------------------------------------------------------------------- its results
    def write(self, folder: Path) -> None:
        """Make the report and write it into ``folder``, in a worker."""
        try:
            study, wishes, parts = self.desk.study(), self.wishes(), self._parts()
        except InputError as error:
            self._say(str(error))
            return
        self._say("making the report …")
        self._latest.ask(_write, folder, study, wishes, parts)
        self._update()

    def documents(self) -> list[Callable[[Path], None]]:
        """What is kept of the report beside the layers: its files, written into the folder that is given."""
        if not self.desk.maps:
            return []
        study, wishes, parts = self.desk.study(), self.wishes(), self._parts()

        def write(folder: Path) -> None:
            for name, data in files_of(_make(study, wishes, parts)).items():
                (folder / name).write_bytes(data)

        return [write]

    def copy_methods(self) -> None:
        """Put the paragraph of methods and its references on the clipboard."""
        self._copy(lambda methods: methods.text, "the methods")

    def copy_bibtex(self) -> None:
        """Put the BibTeX entries of the methods on the clipboard."""
        self._copy(lambda methods: methods.bibtex, "the BibTeX entries")

    def _copy(self, text_of: Callable[[Methods], str], what: str) -> None:
        try:
            methods = methods_of(self.desk.study())
        except InputError as error:
            self._say(str(error))
            return
        QGuiApplication.clipboard().setText(text_of(methods))
        count = len(methods.references)
        self._say(f"copied {what}: {count} reference{'s' if count != 1 else ''}")

    # -------------------------------------------------------------------------------- its life
    def release(self) -> None:
        """Stop the work and let go of the desk."""
        self.desk.changed.disconnect(self._update)
        self._latest.release()

    def _ask_where(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Write the report into a folder")
        if folder:
            self.write(Path(folder))

    def _on_written(self, files: list[Path]) -> None:
        self._say(f"written: {', '.join(file.name for file in files)} in {files[0].parent}")
        if self.open_when_done.isChecked():
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(files[0])))

    def _on_progress(self, fraction: float, text: str) -> None:
        self._say(f"{text} …")

    def _say(self, text: str) -> None:
        self.status.setText(in_words(text))

    def _update(self) -> None:
        some = bool(self.desk.maps)
        self.report_button.setEnabled(some and not self._latest.is_busy)
        self.cancel_button.setVisible(self._latest.is_busy)
        for button in (self.methods_button, self.bibtex_button):
            button.setEnabled(some)
        if some == (self.status.text() == in_words(_NO_MAP)):
            self._say("" if some else _NO_MAP)


def _make(study: Study, wishes: Wishes, parts: Parts) -> Report:
    findings = parts.findings
    if findings is None and "findings" in wishes.parts:
        findings = find_in(study)
    return make_report(study, wishes, regions=parts.regions, spots=parts.spots, findings=findings)


def _write(folder: Path, study: Study, wishes: Wishes, parts: Parts) -> list[Path]:
    report = _make(study, wishes, parts)
    announce("writing the report", 0.5)
    return write_report(report, folder)
