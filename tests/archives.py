"""Darwin Core Archives as their makers write them, in small, and of our own making."""

import csv
import io
import zipfile

DWC, DC, AC = "http://rs.tdwg.org/dwc/terms/", "http://purl.org/dc/terms/", "http://rs.tdwg.org/ac/terms/"
GBIF = "http://rs.gbif.org/terms/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/rights/"


def meta(core, *extensions):
    """A `meta.xml`. Each part: attributes, file, row type, terms (None for a column that isn't described)."""

    def element(tag, attributes, file, kind, terms, key):
        fields = "".join(f'<field index="{n}" term="{term}"/>' for n, term in enumerate(terms) if term)
        written = " ".join(f"{name}='{value}'" for name, value in attributes.items())
        return (
            f'<{tag} {written} rowType="{kind}"><files><location>{file}</location></files>'
            f'<{key} index="0"/>{fields}</{tag}>'
        )

    parts = element("core", *core, "id") + "".join(element("extension", *each, "coreid") for each in extensions)
    return f'<?xml version="1.0"?><archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">{parts}</archive>'


TABS = {
    "encoding": "UTF-8",
    "fieldsTerminatedBy": "\\t",
    "linesTerminatedBy": "\\n",
    "fieldsEnclosedBy": "",
    "ignoreHeaderLines": "1",
}
COMMAS = {**TABS, "fieldsTerminatedBy": ",", "fieldsEnclosedBy": "&quot;"}


def tabbed(header, rows, encoding="utf-8"):
    return "".join("\t".join(row) + "\n" for row in [header, *rows]).encode(encoding)


def quoted(header, rows, encoding="utf-8"):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return text.getvalue().encode(encoding)


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def gbif(path, occurrences, media):
    """As of gbif.org.

    Args:
        occurrences: gbifID, licence of the data, rights holder, catalogue number.
        media: gbifID, type, format, address, title, licence, rights holder.
    """
    core = ["gbifID", "license", "rightsHolder", "catalogNumber", "associatedMedia"]
    terms = ["gbifID", "type", "format", "identifier", "title", "license", "rightsHolder"]
    described = meta(
        (
            TABS,
            "occurrence.txt",
            DWC + "Occurrence",
            [GBIF + "gbifID", DC + "license", DC + "rightsHolder", DWC + "catalogNumber", DWC + "associatedMedia"],
        ),
        (TABS, "verbatim.txt", DWC + "Occurrence", [GBIF + "gbifID"]),
        (TABS, "multimedia.txt", GBIF + "Multimedia", [GBIF + "gbifID", *(DC + term for term in terms[1:])]),
    )
    members = {
        "occurrence.txt": tabbed(core, [[*row, "http://elsewhere.example/ignored.jpg"] for row in occurrences]),
        "verbatim.txt": tabbed(["gbifID"], [row[:1] for row in occurrences]),
        "multimedia.txt": tabbed(terms, media),
        "meta.xml": described,
        "rights.txt": "Dataset: one\nRights as supplied: CC BY\n",
        "citations.txt": "Please cite.\n",
        "dataset/0001.xml": "<eml/>",
    }
    return zipped(path, members)


def symbiota(path, occurrences, media, encoding="ISO-8859-1"):
    """As of a Symbiota portal.

    Args:
        occurrences: id, catalogue number, rights holder.
        media: coreid, identifier, accessURI, goodQualityAccessURI, format, type, rights, Owner, UsageTerms and
            WebStatement.
    """
    written = {**COMMAS, "encoding": encoding}
    core = ["id", "catalogNumber", "rightsHolder"]
    terms = ["coreid", "identifier", "accessURI", "goodQualityAccessURI", "format", "type", "rights", "Owner"]
    terms += ["UsageTerms", "WebStatement"]
    addresses = [DC + "identifier", AC + "accessURI", AC + "goodQualityAccessURI", DC + "format", DC + "type"]
    rights = [DC + "rights", XMP + "Owner", XMP + "UsageTerms", XMP + "WebStatement"]
    described = meta(
        (written, "occurrences.csv", DWC + "Occurrence", [None, DWC + "catalogNumber", DC + "rightsHolder"]),
        (written, "images.csv", AC + "Multimedia", [None, *addresses, *rights]),
    )
    members = {
        "occurrences.csv": quoted(core, occurrences, encoding),
        "images.csv": quoted(terms, media, encoding),
        "meta.xml": described,
        "eml.xml": "<eml/>",
    }
    return zipped(path, members)
