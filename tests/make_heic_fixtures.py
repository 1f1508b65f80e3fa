"""Write tests/fixtures/pictures: HEIC files, which the toolkit's decoder can't write.

    pip install pillow-heif && python tests/make_heic_fixtures.py

The tests compare them with the same pixels, of `pixels`.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "fixtures" / "pictures"


def pixels():
    """A smooth picture without a symmetry: uint8 `(64, 96, 3)`."""
    rows, columns = np.mgrid[:64, :96]
    return np.stack([40 + 2 * columns, 200 - 2 * rows, 60 + columns + rows], axis=2).clip(0, 255).astype("uint8")


def main():
    """Write the files."""
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    FOLDER.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(pixels())
    picture.save(FOLDER / "plain.heic", quality=95)
    heif = pillow_heif.from_pillow(picture)
    heif.info["exif"] = exif.tobytes()  # from which the encoder writes its own kind of orientation
    heif.save(FOLDER / "turned.heic", quality=95)
    opacity = Image.new("L", picture.size, 255)
    opacity.paste(0, (0, 0, 48, 64))
    picture.putalpha(opacity)
    picture.save(FOLDER / "half-transparent.heic", quality=95)


if __name__ == "__main__":
    main()
