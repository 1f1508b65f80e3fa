// What the reader decided: name of an image -> { label, role }, in the order of deciding.

const decisions = new Map();
const past = []; // of this visit, to be taken back: arrays of [name, the decision before]
const place = `herbariograph ${document.body.dataset.identity}`;
let stored = true; // whether this browser keeps them
let savedText = ""; // the table as it was saved or loaded last

const decisionOf = (image) => decisions.get(data.names[image]);
const roleOf = (image) => (audited.has(image) ? "audit" : "teach");
const taughtCount = () => [...decisions.values()].filter(({ role }) => role === "teach").length;

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

function loadCorrections(text) {
  // Add the rows of a table; returns what came of it, for the reader.
  const [header, ...rows] = text.replace(/^\ufeff/, "").split(/\r?\n/).filter(Boolean).map((line) => line.split("\t"));
  const [file, category, role] = ["FILE", "CATEGORY", "ROLE"].map((name) => (header || []).indexOf(name));
  if (file < 0 || category < 0) return "That is no table of corrections: it needs the columns FILE and CATEGORY.";
  const bad = rows.findIndex((row) => !row[file] || !row[category] || objectionTo(row[category]));
  if (bad >= 0) return `Nothing was loaded: row ${bad + 1} has no FILE, or no CATEGORY that can be used.`;
  const former = [...new Set(rows.map((row) => row[file]))].map((name) => [name, decisions.get(name)]);
  past.push(former.filter(([name]) => numberOf.has(name)));
  for (const row of rows) {
    decisions.delete(row[file]);
    setDecision(row[file], row[category], row[role] || "teach");
  }
  savedText = correctionsTable();
  decisionsChanged();
  const absent = rows.filter((row) => !numberOf.has(row[file])).length;
  return `${counted(rows.length, "correction")} loaded.${absent
    ? ` ${counted(absent, "image")} of them ${absent === 1 ? "isn’t" : "aren’t"} in this page: kept and saved again, but not learnt from here.`
    : ""}`;
}
