// A table in a file that the reader chose, read by the rules of lib/storage/formats.py.

const NO_ENCODING = "it is neither in UTF-8 nor in UTF-16 or Windows-1252; save it as UTF-8";

function textOf(bytes) {
  // A file's text; an Error, a clause, if it has none.
  const begins = (...start) => start.every((byte, at) => bytes[at] === byte);
  if (begins(0x50, 0x4b, 3, 4) || begins(0xd0, 0xcf, 0x11, 0xe0)) {
    throw new Error("it is a workbook of Excel’s; save it there as .csv and load that");
  }
  const marked = begins(0xef, 0xbb, 0xbf), zero = bytes.subarray(0, 64).includes(0); // of Latin text in UTF-16
  const encoding = begins(0xff, 0xfe) ? "utf-16le" : begins(0xfe, 0xff) ? "utf-16be"
    : !zero ? "utf-8" : bytes[0] === 0 ? "utf-16be" : "utf-16le";
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (error) {
    if (marked || encoding !== "utf-8") throw new Error(NO_ENCODING);
  }
  if (/[^\0-\x7f\ufffd]/.test(new TextDecoder().decode(bytes))) {
    throw new Error("it is in UTF-8, but for some bytes; save it as UTF-8");
  }
  const text = new TextDecoder("windows-1252").decode(bytes);
  if (/[\x81\x8d\x8f\x90\x9d]/.test(text)) throw new Error(NO_ENCODING); // bytes that mean nothing in it
  return text;
}

function rowsOf(text) {
  // Pairs of a line's number and its values; without lines that have none. The first are the names of the columns.
  const end = text.includes("\n") || !text.includes("\r") ? "\n" : "\r";
  const [first, second = ""] = text.split(end, 2);
  const named = /^sep=(.)\r?$/.exec(first); // which tells Excel the separator
  const header = named ? second : first;
  const separator = named ? named[1] : separatorOf(header);
  // Else a lone quote would swallow lines.
  const quotable = separator !== "\t" || header.endsWith("\r") || header.startsWith('"');
  const rows = (quotable ? quotedRows(text, separator) : plainRows(text, end)).slice(named ? 1 : 0)
    .filter(([, values]) => values.some((value) => value.trim()));
  // Before what Excel would compute, a CSV has an apostrophe.
  if (separator !== "\t") for (const row of rows) row[1] = row[1].map((value) => value.replace(/^'(?='*[=+@-])/, ""));
  return rows;
}

function separatorOf(header) {
  // Tabs, else commas or semicolons, whichever are more.
  const count = (sign) => header.split(sign).length - 1;
  if (count("\t") || !/[,;]/.test(header)) return "\t";
  return count(";") > count(",") ? ";" : ",";
}

function plainRows(text, end) {
  // A value that has quotes itself is in quotes where pandas wrote it.
  const value = (one) => (/^"[^"]*(?:""[^"]*)+"$/.test(one) ? unquoted(one.slice(1, -1)) : one);
  return text.split(end).map((line, place) => [place + 1, line.replace(/\r+$/, "").split("\t").map(value)]);
}

const unquoted = (value) => value.replaceAll('""', '"');

function quotedRows(text, separator) {
  const sign = separator.replace(/[\\\]^-]/, "\\$&"), rows = [];
  const value = new RegExp(`(?:"([^"]*(?:""[^"]*)*)"|((?!")[^${sign}\r\n]*))([${sign}]|\r\n?|\n|$)`, "y");
  let values = [], line = 1;
  for (;;) {
    const found = value.exec(text);
    if (!found) throw new Error(`line ${line} has a double quote that opens no value or closes none`);
    const [, quoted, plain, end] = found;
    values.push(quoted === undefined ? plain : unquoted(quoted));
    line += (quoted ?? "").split(/\r\n?|\n/).length - 1;
    if (end === separator) continue;
    rows.push([line, values]);
    if (!end) return rows;
    values = [];
    line++;
  }
}
