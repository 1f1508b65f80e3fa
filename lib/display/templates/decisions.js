// What the reader decided: name of an image -> { label, role }, in the order of deciding.

const decisions = new Map();
const past = []; // of this visit, to be taken back: arrays of [name, the decision before]
const place = `herbariograph ${document.body.dataset.identity}`;
let stored = true; // whether this browser keeps them
let savedText = ""; // the table as it was saved or loaded last

const decisionOf = (image) => decisions.get(data.names[image]);
const roleOf = (image) => (audited.has(image) ? "audit" : "teach");
// Others are about images of other pages.
const decidedHere = () => [...decisions].filter(([name]) => numberOf.has(name)).map(([, decision]) => decision);
const taughtCount = () => decidedHere().filter(({ role }) => role === "teach").length;

function keepDecisions() {
  try {
    const rows = [...decisions].map(([name, { label, role }]) => [name, label, role]);
    if (rows.length || data.decided.length) localStorage.setItem(place, JSON.stringify(rows));
    else localStorage.removeItem(place);
    stored = true;
  } catch (error) {
    stored = false;
  }
}

function recallDecisions() {
  // Those that this browser keeps, else those that the page was made with.
  let kept = null;
  for (const row of data.decided) setDecision(...row);
  savedText = correctionsTable();
  try {
    kept = JSON.parse(localStorage.getItem(place));
  } catch (error) {
    stored = false;
  }
  if (!kept) return;
  decisions.clear();
  for (const row of kept) setDecision(...row);
}

function setDecision(name, label, role) {
  if (!objectionTo(label)) categoryOf(label);
  decisions.set(name, { label, role: role === "audit" ? "audit" : "teach" });
}

function decide(pairs) {
  // Pairs of an image and its category's label.
  past.push(pairs.map(([image]) => [data.names[image], decisionOf(image)]));
  for (const [image, label] of pairs) {
    decisions.delete(data.names[image]); // so that it becomes the last one
    setDecision(data.names[image], label, roleOf(image));
  }
  decisionsChanged();
}

function forget(images) {
  past.push(images.map((image) => [data.names[image], decisionOf(image)]));
  for (const image of images) decisions.delete(data.names[image]);
  decisionsChanged();
}

function takeBack(role) {
  // Take back the last decision, or the last one of a role; returns its images.
  const matches = ([name]) => !role || roleOf(numberOf.get(name)) === role;
  let at = past.length - 1;
  while (at >= 0 && !past[at].every(matches)) at--;
  const earlier = [...decisions.keys()].filter((name) => numberOf.has(name) && matches([name])).pop();
  const batch = at >= 0 ? past.splice(at, 1)[0] : earlier && [[earlier, undefined]];
  if (!batch) return [];
  for (const [name, before] of batch) {
    if (before) decisions.set(name, before);
    else decisions.delete(name);
  }
  decisionsChanged();
  return batch.map(([name]) => numberOf.get(name));
}

function correctionsTable() {
  const rows = [...decisions].map(([name, { label, role }]) => `${name}\t${label}\t${role}\n`);
  return `FILE\tCATEGORY\tROLE\n${rows.join("")}`;
}

function saveCorrections() {
  savedText = correctionsTable();
  const link = element("a", { download: "corrections.tsv" });
  link.href = URL.createObjectURL(new Blob([savedText], { type: "text/tab-separated-values" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  decisionsSaved();
}

const ROLES = ["teach", "audit"];

function correctionsIn(bytes) {
  // The decisions in a file, names, labels and roles; an Error, a clause, if not all of them can be used.
  const [[, names] = [0, []], ...rows] = rowsOf(textOf(bytes));
  const [file, category, role] = ["FILE", "CATEGORY", "ROLE"].map((name) => names.map((one) => one.trim()).indexOf(name));
  if (file < 0 || category < 0) throw new Error("that is no table of corrections, which needs the columns FILE and CATEGORY");
  return rows.map(([line, values]) => {
    const name = values[file] ?? "", label = canonical(values[category] ?? ""), part = (values[role] ?? "").trim() || "teach";
    if (!name || /[\t\r\n]/.test(name) || !label || objectionTo(label)) {
      throw new Error(`line ${line} has no FILE, or no CATEGORY that can be used`);
    }
    if (!ROLES.includes(part)) {
      const shown = part.slice(0, 30).replace(/\p{C}/gu, "\ufffd");
      throw new Error(`line ${line} has the ROLE “${shown}”, and it must be ${ROLES.join(" or ")}`);
    }
    return [name, label, part];
  });
}

function loadCorrections(bytes) {
  // Add the rows of a table; returns what came of it, for the reader.
  let rows;
  try {
    rows = correctionsIn(bytes);
  } catch (error) {
    return `Nothing was loaded: ${error.message}.`;
  }
  const former = [...new Set(rows.map(([name]) => name))].map((name) => [name, decisions.get(name)]);
  past.push(former.filter(([name]) => numberOf.has(name)));
  for (const row of rows) {
    decisions.delete(row[0]);
    setDecision(...row);
  }
  savedText = correctionsTable();
  decisionsChanged();
  return `${counted(rows.length, "correction")} loaded${toldAbsent(rows)}${toldNew(rows)}.`;
}

function toldAbsent(rows) {
  const absent = rows.filter(([name]) => !numberOf.has(name)).length;
  if (!absent) return "";
  return `, ${absent.toLocaleString("en")} of them about images that aren’t in this page (kept and saved again, but not learnt from here)`;
}

function toldNew(rows) {
  // Names that nobody meant are seen here before a model is adapted to them.
  const most = 5, added = [...new Set(rows.map(([, label]) => label))].filter((label) => !modelLabels.has(label));
  if (!added.length) return "";
  const parts = added.length > most + 1 ? [...added.slice(0, most), `${(added.length - most).toLocaleString("en")} more`] : added;
  const named = [parts.slice(0, -1).join(", "), ...parts.slice(-1)].filter(Boolean).join(" and ");
  const [noun, are] = added.length === 1 ? ["category", "it is"] : ["categories", "they are"];
  return `; ${teachable ? "the model" : "this page"} has no ${noun} ${named}, so ${are} new`;
}
