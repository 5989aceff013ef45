"""What is damaged: a sound file or more of every kind that is read, made here."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import office_kit
import pdfs
from batch_kit import body, png, said, shown
from dicom_kit import dataset, deflated, file, packed, slice_of
from PIL import Image as Pillow
from pydicom.uid import RLELossless

from medgemma_cli import readers
from medgemma_cli.readers import request, row

NOTE = "# Visit\n\nSeñora Pérez, 71. Dry cough since Monday; no fever.\nRamipril 5 mg.\n"
HTML = (
    "<html><head><meta charset=utf-8><title>T</title></head><body><h1>Visit</h1><p>Dry &amp; sore"
    "<table><tr><td>Na<td>140</table><ul><li>a<li>b</ul><script>x()</script></body></html>"
)
RTF = r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}\f0 Dry cough\par \u8364? 5 {\b mg}\'e9\tab x}"
_GREY = np.arange(0, 6400, 100, dtype=np.uint16).reshape(8, 8)
_FRAMES = np.stack([_GREY] * 3)
_COLOUR = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)


class Target(NamedTuple):
    """A reader under test.

    Attributes:
        kind: the media type.
        seeds: sound inputs.
        wrap: makes the reader's bytes of damaged ones: so that sums and packing do not hide
            what is behind them.
        share: how many of a hundred inputs are its.
    """

    kind: str
    seeds: tuple[bytes, ...]
    share: int
    wrap: Callable[[bytes], bytes] = bytes


def _pictures(kind: str, *modes: str, **options: Any) -> tuple[bytes, ...]:
    made = []
    for mode in modes:
        image = Pillow.linear_gradient("L").resize((24, 20)).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return tuple(made)


def _word(inside: bytes) -> bytes:
    return office_kit.docx(inside.decode("latin-1"))


def _photographed(data: bytes) -> bytes:
    return request.canonical(body([said("Look."), shown(data)])).encode()


def _filed(data: bytes) -> bytes:
    """A row with an image, as `readers.row` packs it."""
    head = json.dumps({"image": "image/png", "text": 5}).encode()
    return b"\0" + head + b"\nLook." + data


def targets() -> dict[str, Target]:
    """All of them, by name."""
    of = readers.MEDIA_TYPES
    words = "".join(office_kit.paragraph(text) for text in ("Dry cough.", "5 mg"))
    table = f"<w:tbl><w:tr><w:tc>{words}</w:tc></w:tr></w:tbl>".encode()
    letter = office_kit.mail(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(NOTE.encode()).decode(),
        "Content-Type: text/html\r\n\r\n<p>Dry cough.",
        "Content-Type: application/pdf\r\n\r\nx",
    )
    numbers = {"type": "array", "items": {"type": "integer"}}
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": numbers}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    asked = body([said("Which side?"), shown(png(9))], max_tokens=9, seed=1, response_format=form)
    chat = json.dumps(asked).encode()
    text = pdfs.pdf([pdfs.text("Dry cough since Monday."), pdfs.Page()])
    drawn = pdfs.form("/Subtype /Widget /FT /Tx /T (a) /V (b) /Rect [0 0 9 9] /AP << /N 3 0 R >>")
    return {
        "text": Target(of[".md"], (NOTE.encode(), NOTE.encode("utf-16"), b"\xef\xbb\xbfx"), 6),
        "png": Target(of[".png"], (*_pictures("PNG", "RGB", "P", "LA", "I;16"), png(9)), 6),
        "jpeg": Target(of[".jpg"], _pictures("JPEG", "RGB", "CMYK", "L"), 6),
        "tiff": Target(of[".tif"], _pictures("TIFF", "RGB", "1", "F", "I;16"), 6),
        "bmp": Target(of[".bmp"], _pictures("BMP", "RGB", "P"), 3),
        "webp": Target(of[".webp"], _pictures("WEBP", "RGB", "RGBA"), 4),
        "pdf": Target(
            of[".pdf"],
            (text, pdfs.pdf([pdfs.scan()]), drawn, pdfs.pdf([pdfs.text("x")], user=b"")),
            12,
        ),
        "pdf drawing": Target(
            of[".pdf"],
            (pdfs.text("Dry cough.").content, pdfs.scan().content),
            6,
            lambda data: pdfs.pdf([pdfs.Page(data)]),
        ),
        "dicom": Target(
            of[".dcm"],
            (
                file(_GREY, modality="CR", WindowCenter=3000, WindowWidth=5000),
                file(_FRAMES, modality="US"),
                file(_COLOUR),
                packed(dataset(_GREY), RLELossless),
                slice_of(_GREY, 3.0),
            ),
            14,
        ),
        "dicom deflated": Target(of[".dcm"], (deflated(dataset(_GREY)),), 2),
        "docx": Target(of[".docx"], (office_kit.docx(words),), 4),
        "docx inside": Target(of[".docx"], (words.encode(), table), 5, _word),
        "html": Target(of[".html"], (HTML.encode(), HTML.encode("utf-16")), 6),
        "rtf": Target(of[".rtf"], (RTF.encode(),), 4),
        "mail": Target(of[".eml"], (letter, b"Subject: a\r\n\r\nDry cough."), 5),
        "row": Target(row.IMAGE, (png(9),), 1, _filed),
        "request": Target(request.KIND, (chat,), 3),
        "request image": Target(request.KIND, (png(9),), 1, _photographed),
    }


def tables() -> dict[str, bytes]:
    """Sound tables, by file name."""
    found = {
        "t.csv": b'id,text\n1,"Dry, ""sore"""\n2,No fever\n',
        "t.tsv": b"id\ttext\n1\tDry cough\n2\tNo fever\n",
        "t.json": b'[{"id": 1, "text": "Dry"}, {"id": "b", "text": "caf\\u00e9", "x": [1, {}]}]',
        "t.jsonl": b'{"id": 1, "text": "Dry"}\n{"id": "b", "text": "No fever", "x": null}\n',
        "wide.csv": "id;text\n1;Señora\n".encode("utf-16"),
    }
    lines = [
        {"custom_id": n, "method": "POST", "url": "/v1/chat/completions", "body": body()}
        for n in "ab"
    ]
    found["b.jsonl"] = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return found
