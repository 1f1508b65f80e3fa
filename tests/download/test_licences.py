"""Licences are recognised in the spellings that occur in archives, and never guessed."""

import pytest

from lib.download.licences import KNOWN, parse_licences, read_licence


@pytest.mark.parametrize(
    ("text", "name", "kept"),
    [
        ("http://creativecommons.org/publicdomain/zero/1.0/legalcode", "cc0", "CC0 1.0"),
        ("CC0_1_0", "cc0", "CC0 1.0"),
        ("CC0 1.0 (Public-domain)", "cc0", "CC0 1.0"),
        ("cc-zero", "cc0", "CC0"),
        ("CC0", "cc0", "CC0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "pdm", "PDM 1.0"),
        ("Public Domain Mark 1.0", "pdm", "PDM 1.0"),
        ("http://creativecommons.org/licenses/by/4.0/legalcode", "by", "CC BY 4.0"),
        ("CC_BY_4_0", "by", "CC BY 4.0"),
        ("https://creativecommons.org/licenses/by/4.0/deed.en", "by", "CC BY 4.0"),
        ("creativecommons.org/licences/by-nc-sa/3.0/", "by-nc-sa", "CC BY-NC-SA 3.0"),
        ("CC-BY", "by", "CC BY"),
        ("Attribution 4.0 International (CC BY 4.0)", "by", "CC BY 4.0"),
        ("CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/legalcode#languages)", "by", "CC BY 4.0"),
        ("Creative Commons Attribution", "by", "CC BY"),
        ("CC_BY_NC_4_0", "by-nc", "CC BY-NC 4.0"),
        ("BY-NC", "by-nc", "CC BY-NC"),
        ("cc by nc", "by-nc", "CC BY-NC"),
        ("CC BY-NC (Attribution-NonCommercial)", "by-nc", "CC BY-NC"),
        ("Creative Commons Attribution Non Commercial (CC-BY-NC) 4.0 License", "by-nc", "CC BY-NC 4.0"),
        ("CC BY-SA-NC, no commercial use", "by-nc-sa", "CC BY-NC-SA"),
        ("CreativeCommons \ufffd Attribution Non-Commercial No Derivatives", "by-nc-nd", "CC BY-NC-ND"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/us/", "by-nc-sa", "CC BY-NC-SA 4.0"),
        ("https://i.creativecommons.org/l/by-nc/4.0/80x15.png", "by-nc", "CC BY-NC 4.0"),
        # What says more than the licence is kept whole.
        ("© Field Museum of Natural History - CC BY-NC", "by-nc", "© Field Museum of Natural History - CC BY-NC"),
        ("Released under CC-BY-SA 4.0. Please credit HBG.", "by-sa", "Released under CC-BY-SA 4.0. Please credit HBG."),
        # What is no licence, or more than one.
        ("", None, ""),
        ("All rights reserved", None, "All rights reserved"),
        ("All rights reserved, CC BY", None, "All rights reserved, CC BY"),
        ("by permission of the curator", None, "by permission of the curator"),
        ("not for commercial use", None, "not for commercial use"),
        ("CC BY or CC0", None, "CC BY or CC0"),
        ("http://creativecommons.org/licenses/by/4.0/ http://creativecommons.org/licenses/by-nc/4.0/", None, None),
        ("http://creativecommons.org/licenses/by/4.0/ (CC BY-NC)", None, None),
        ("http://creativecommons.org/licenses/sampling/1.0/", None, None),
        ("UNSPECIFIED", None, "UNSPECIFIED"),
        ("Public domain", None, "Public domain"),
        ("http://www.opendatacommons.org/licenses/by/1.0", None, None),
    ],
)
def test_licences_are_recognised_and_never_guessed(text, name, kept):
    assert read_licence(text) == (name, text if kept is None else kept)


def test_licences_are_chosen_by_name():
    assert parse_licences("cc0,BY, cc-by-nc,by") == ("cc0", "by", "by-nc")
    assert parse_licences(",".join(KNOWN)) == KNOWN
    for wrong in ("", "gpl", "by,nc", "by-sa-nc"):
        with pytest.raises(ValueError, match="is not a licence that can be chosen"):
            parse_licences(wrong)
