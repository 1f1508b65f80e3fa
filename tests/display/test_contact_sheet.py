"""Pictures and captions on one sheet."""

import numpy as np

from lib.display.contact_sheet import contact_sheet


def test_a_contact_sheet_has_room_for_its_captions():
    black = np.zeros((8, 8, 3), "uint8")
    caption = "Reproduction taken for Fragmentary (0.95)" * 3
    sheet = np.asarray(contact_sheet([(caption, [black])]))
    assert (sheet[:, -4:] == 255).all() and (sheet[:15, -16:-4] < 128).any()  # the last letter, then a margin
    assert contact_sheet([("short", [black])]).width == 204
