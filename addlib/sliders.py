"""A slider over precomputed pictures that works on a published page, without a kernel and without other files."""

import base64
import html
import io
from collections.abc import Sequence

LIMIT = 1_500_000  # bytes of one slider, as a page on a phone can bear


class Slider:
    """Pictures of one quantity and the control that chooses among them; shows itself in a notebook and on a page.

    Without scripts, and on paper, the picture that was shown first stands there alone.

    Args:
        images: pictures, each (H, W) or (H, W, 3) uint8, a matplotlib figure, or a PIL image.
        labels: what the control reads out for each picture, such as "rate factor 23".
        alt: description of the pictures for who cannot see them; one for all, or one for each.
        name: of the quantity, beside the control.
        start: index of the picture shown first.
        width: of the picture on the page, in CSS pixels; its own width in pixels if None.
        quality: of the WebP encoding, 1 to 100; None keeps every pixel as it is.

    Raises:
        ValueError: if the numbers of images, labels and descriptions differ, start names no picture, or all pictures
            together exceed 1.5 MB.
    """

    def __init__(
        self,
        images: Sequence,
        labels: Sequence[str],
        alt: str | Sequence[str],
        *,
        name: str,
        start: int = 0,
        width: int | None = None,
        quality: int | None = 85,
    ):
        alts = [f"{alt} ({label})" for label in labels] if isinstance(alt, str) else list(alt)
        if not len(images) == len(labels) == len(alts) > 0:
            raise ValueError(f"got {len(images)} images, {len(labels)} labels, {len(alts)} alts; give one of each")
        if not 0 <= start < len(images):
            raise ValueError(f"start {start} is none of the {len(images)} images; count from 0")
        self.labels, self.alts, self.name, self.start = list(labels), alts, name, start
        self.pictures, widths = zip(*(_webp(image, quality) for image in images), strict=True)
        self.width = width or widths[0]
        if len(self._repr_html_()) > LIMIT:
            raise ValueError(
                f"the slider takes {len(self._repr_html_()) / 1e6:.1f} MB, allowed are {LIMIT / 1e6} MB; "
                "give fewer or smaller pictures or a lower quality"
            )

    def __repr__(self) -> str:
        return f"slider over {len(self.labels)} pictures: {self.name}, {self.labels[0]} to {self.labels[-1]}"

    def _repr_html_(self) -> str:
        escape = html.escape
        pictures = "".join(
            f'<img src="data:image/webp;base64,{base64.b64encode(data).decode()}" alt="{escape(alt)}" '
            f'data-label="{escape(label)}" style="width:{self.width}px;max-width:100%;height:auto"'
            f"{'' if place == self.start else ' hidden'}>"
            for place, (data, label, alt) in enumerate(zip(self.pictures, self.labels, self.alts, strict=True))
        )
        choose = (
            "const box=this.closest('.slider'),all=box.querySelectorAll('img');"
            "all.forEach((each,i)=>{each.hidden=i!=this.value});const label=all[this.value].dataset.label;"
            "this.setAttribute('aria-valuetext',label);box.querySelector('output').value=label"
        )
        # The control is hidden until a script, which is what it needs, shows it.
        return (
            f'<div class="slider">{pictures}<div class="slider-control" hidden><label>{escape(self.name)} '
            f'<input type="range" min="0" max="{len(self.labels) - 1}" value="{self.start}" '
            f'aria-valuetext="{escape(self.labels[self.start])}" oninput="{escape(choose)}"></label> '
            f'<output aria-live="polite">{escape(self.labels[self.start])}</output></div>'
            "<script>document.currentScript.previousElementSibling.hidden=false</script></div>"
        )


def _webp(image, quality: int | None) -> tuple[bytes, int]:
    from PIL import Image

    buffer = io.BytesIO()
    if hasattr(image, "savefig"):
        image.savefig(buffer, format="png")
        image = Image.open(buffer).convert("RGB")
    elif not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", lossless=quality is None, quality=quality or 100, method=6)
    return encoded.getvalue(), image.width
