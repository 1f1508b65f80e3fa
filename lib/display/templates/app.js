// The page as a whole: its tabs, the sidebar, what is said, saved and loaded.

const TABS = ["browse", "teach", "audit", "apply", "details"];
let tab = "browse";
const panelOf = (name) => byId(name === "teach" || name === "audit" ? "ask" : name);

function openTab(name) {
  tab = name;
  for (const one of TABS) {
    const button = byId(`tab-${one}`), own = one === name;
    button.setAttribute("aria-selected", String(own));
    button.tabIndex = own ? 0 : -1;
  }
  for (const panel of document.querySelectorAll("[role=tabpanel]")) panel.hidden = panel !== panelOf(name);
  document.body.dataset.tab = name;
  scrollTo(0, 0);
  if (name === "browse") arrange();
  else if (name === "apply") drawApply();
  else if (name !== "details") {
    showAsk(name);
    byId("ask").focus({ preventScroll: true });
  }
}

function decisionsChanged() {
  keepDecisions();
  learn();
  drawAll();
}

function answersChanged() {
  if (tab === "browse") arrange();
  else if (tab === "teach" || tab === "audit") askAnswered();
  drawAll();
}

function decisionsSaved() {
  drawAll();
}

function learnerFailed() {
  learner = null;
  say("This browser can’t learn in the background; decisions are kept, but the answers stay as they are.");
}

function drawAll() {
  const count = decidedHere().length, changed = current.answers.reduce((sum, _, image) => sum + isChanged(image), 0);
  const total = data.counts.reduce((sum, one) => sum + one, 0);
  byId("progress").textContent = `${count.toLocaleString("en")} of ${total.toLocaleString("en")} looked at`
    + (changed ? ` · ${counted(changed, "answer")} changed` : "");
  const none = decisions.size === 0;
  byId("save").disabled = none;
  byId("save").classList.toggle("due", !none && correctionsTable() !== savedText);
  byId("undo").disabled = none && past.length === 0;
  byId("unkept").hidden = stored || none;
  drawSide();
  if (tab === "apply") drawApply();
}

// The categories, how many images each has, and how many it had.

function drawSide() {
  const now = categories.map((_, category) => data.counts[category] ?? 0);
  const before = categories.map((_, category) => data.countsBefore[category] ?? 0);
  for (let image = 0; image < COUNT; image++) {
    now[data.answersOfTable[image]]--;
    now[categoryShown(image)]++;
  }
  const most = Math.max(1, ...now, ...before), list = byId("bars");
  while (list.children.length < categories.length) list.append(makeBar(list.children.length));
  categories.forEach(({ shown }, category) => {
    const difference = now[category] - before[category];
    const change = difference === 0 ? "" : `${difference > 0 ? "+" : "−"}${Math.abs(difference).toLocaleString("en")}`;
    const item = list.children[category], [name, delta, count, bar] = item.firstChild.children;
    item.classList.toggle("empty", now[category] === 0 && before[category] === 0);
    name.textContent = shown;
    delta.textContent = change;
    delta.className = difference > 0 ? "delta more" : "delta less";
    count.textContent = now[category].toLocaleString("en");
    bar.children[0].style.width = `${(100 * before[category]) / most}%`;
    bar.children[1].style.width = `${(100 * now[category]) / most}%`;
  });
}

function makeBar(category) {
  const button = element("button", { type: "button" }, element("span", { className: "label" }), element("span"),
    element("span", { className: "count" }), element("span", { className: "bar" }, element("i"), element("i")));
  button.addEventListener("click", () => showCategory(category));
  return element("li", {}, button);
}

function showCategory(category) {
  byId("group").value = view.group = "category";
  if (view.sort === "like") byId("sort").value = view.sort = "low";
  if (tab !== "browse") openTab("browse");
  else arrange();
  const section = sections.get(category);
  if (!section) {
    say(`No image here is ${categories[category].shown}.`);
    return;
  }
  section.element.scrollIntoView({ block: "start" });
  draw();
  focusCard(section.images[0]);
}

// Applying: the table of corrections, and the commands that use it.

function drawApply() {
  const roles = { teach: 0, audit: 0 }, absent = decisions.size - decidedHere().length;
  for (const { role } of decisions.values()) roles[role]++;
  byId("apply-count").textContent = decisions.size === 0 ? "Nothing is decided yet."
    : `${counted(roles.teach, "image")} taught, ${counted(roles.audit, "image")} audited${
      absent ? `; ${absent.toLocaleString("en")} of them not in this page` : ""}.`;
  byId("save-here").disabled = byId("discard").disabled = decisions.size === 0;
  if (!data.command) return;
  const { model: named, features: file, stem, ridge } = data.command;
  const taught = new Set([...decisions.values()].filter(({ role }) => role === "teach").map(({ label }) => label));
  const added = [...taught].filter((label) => !modelLabels.has(label)).map((label) => `--new-category ${quoted(label)}`);
  const join = (...parts) => parts.filter(Boolean).join(" \\\n    ");
  byId("too-few").hidden = taught.size > 1;
  byId("command").textContent = join(`./adaptImages.py -m ${named} -e ${file} -t corrections.tsv`, ...added, ridge && `--ridge ${ridge}`,
    `-o ${after(stem, "-adapted.keras")} --predict ${after(stem, "-adapted.tsv")} --report ${after(stem, "-adapted.html")}`);
  // Records have the numbers of the model's outputs, unless there is a category that it doesn't have.
  const same = data.command.published && [...decisions.values()].every(({ label }) => modelLabels.has(label));
  byId("records-command").textContent = `./imagesToTFR.py -t corrections.tsv -o decided${same ? " --herbariograph" : ""}`;
  byId("sort-command").textContent = join(`./predictImages.py --report-from ${after(stem, "-adapted.tsv")} --sort ${after(stem, "-sorted")}`);
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`);

function after(stem, ending) {
  // A name with an ending, as a shell reads it.
  return stem.endsWith("'") ? `${stem.slice(0, -1)}${ending}'` : stem + ending;
}

function say(text) {
  byId("said").textContent = text;
}

function undo() {
  const images = takeBack();
  say(images.length ? `Taken back: ${images.length === 1 ? baseName(images[0]) : counted(images.length, "decision")}.` : "Nothing to take back.");
  if (tab === "browse") {
    arrange();
    if (images.length) focusCard(images[0]);
  } else if (tab === "teach" || tab === "audit") nextImage();
}

// Windows over the page.

function zoom(image) {
  if (image < 0 || image in data.problems) return;
  byId("zoomed-picture").src = largestPicture(image);
  byId("zoomed-picture").alt = baseName(image);
  byId("zoomed-name").textContent = shownName(image);
  byId("zoomed-rights").textContent = rightsOf(image);
  const link = byId("zoomed-link");
  link.hidden = !data.links[image];
  link.href = data.links[image] || "#";
  link.textContent = displayable(image) ? "Open the file" : "Open the file (a browser may not show its kind)";
  byId("zoomed").showModal();
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
byId("zoomed").addEventListener("keydown", (event) => {
  if (event.key !== "z" && event.key !== "Z") return;
  event.preventDefault();
  byId("zoomed").close();
});
byId("keys").addEventListener("click", () => byId("help").showModal());
byId("letters").addEventListener("change", (event) => {
  try {
    localStorage.setItem("herbariograph keys", event.target.checked ? "on" : "off");
  } catch (error) { /* then it lasts as long as the page is open */ }
});

// Keys: where the reader is, unless something else wants them.

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
  const { target, key } = event, within = (selector) => target.closest && target.closest(selector);
  if (within("input, select, textarea")) return;
  if (continueName(key)) {
    event.preventDefault();
    return;
  }
  if (key === "?") byId("help").showModal();
  else {
    const own = within("button, a, [role=tab]");
    if (own && (key === "Enter" || key === " " || key.startsWith("Arrow"))) return;
    if (!byId("letters").checked && SIGN.test(key)) return;
    const asked = (tab === "teach" || tab === "audit") && !event.ctrlKey && !event.metaKey && askKey(event);
    if (!asked && !(tab === "browse" && (within("#grid") || target === document.body) && gridKey(event))) return;
  }
  event.preventDefault();
});

byId("tabs").addEventListener("keydown", (event) => {
  const shown = TABS.filter((name) => !byId(`tab-${name}`).hidden), at = shown.indexOf(tab);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  openTab(shown[(next + shown.length) % shown.length]);
  byId(`tab-${tab}`).focus();
});
for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => openTab(name));
for (const id of ["save", "save-here"]) byId(id).addEventListener("click", saveCorrections);
byId("undo").addEventListener("click", undo);
byId("discard").addEventListener("click", () => {
  if (!confirm(`Discard ${counted(decisions.size, "decision")}?`)) return;
  past.length = 0;
  decisions.clear();
  decisionsChanged();
});
byId("load").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const said = loadCorrections(new Uint8Array(await file.arrayBuffer()));
  event.target.value = "";
  byId("loaded").textContent = said;
});
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(byId(button.dataset.copies));
    document.execCommand("copy");
    say("Copied.");
  });
}
addEventListener("beforeunload", (event) => {
  if (!stored && correctionsTable() !== savedText) event.preventDefault();
});

new ResizeObserver(([{ target }]) => {
  // What sticks below the head has to know how much of it stays.
  const style = getComputedStyle(target), height = style.position === "sticky" ? target.offsetHeight + parseFloat(style.top) : 0;
  document.documentElement.style.setProperty("--head", `${Math.max(0, height)}px`);
}).observe(document.querySelector(".top"));

function start() {
  try {
    byId("letters").checked = localStorage.getItem("herbariograph keys") !== "off";
  } catch (error) { /* as it is */ }
  recallDecisions();
  for (const hidden of document.querySelectorAll("[data-live]")) hidden.hidden = false;
  if (!teachable) byId("tab-teach").hidden = byId("tab-audit").hidden = true;
  openTab("browse");
  if (teachable) startLearner();
  learn();
  drawAll();
}

start();
