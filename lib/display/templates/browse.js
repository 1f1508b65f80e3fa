// Browse: all images of the page in sections, of which only the cards in view are in the document.

const grid = byId("grid");
const view = { group: "category", sort: "low", show: "all", name: "", size: "m" };
const SIDES = { s: 88, m: 128, l: 208 }; // of a card's picture in pixels
const CAPTION = hasRights ? 38 : 22, GAP = 6;
const sections = new Map(); // category, or -1 for all -> what is drawn
let order = []; // the images as they stand, through all sections
let alike = null; // the image that others are compared with, and its likeness to each
const selected = new Set();
let active = -1, anchor = -1; // the image with the focus; where a range begins

const browseFinder = makeFinder(byId("browse-finder"), (label) => decideSelected(() => label), () => focusCard(active));

function isShown(image) {
  const decision = decisionOf(image);
  if (audited.has(image) && !decision) return false; // what will be measured is not to be seen before
  if (view.name && !shownName(image).toLowerCase().includes(view.name)) return false;
  switch (view.show) {
    case "open": return !decision;
    case "decided": return Boolean(decision);
    case "changed": return isChanged(image) || Boolean(decision && placeOf.get(decision.label) !== model.answers[image]);
    case "unsure": return !decision && !(current.certainties[image] >= 0.5);
    default: return true;
  }
}

function arrange() {
  // Put the images into sections and these into the page.
  const shown = [];
  for (let image = 0; image < COUNT; image++) if (isShown(image)) shown.push(image);
  const sure = (image) => (decisionOf(image) ? 2 : Number.isNaN(current.certainties[image]) ? -1 : current.certainties[image]);
  const by = {
    low: (a, b) => sure(a) - sure(b),
    high: (a, b) => sure(b) - sure(a),
    name: (a, b) => a - b, // replaced below
    like: (a, b) => alike.likeness[b] - alike.likeness[a],
  };
  by.name = (a, b) => (data.names[a] < data.names[b] ? -1 : 1);
  shown.sort(by[view.sort]);
  const wanted = new Map(view.group === "category" ? categories.map((_, category) => [category, []]) : [[-1, []]]);
  for (const image of shown) wanted.get(view.group === "category" ? categoryShown(image) : -1).push(image);
  for (const [key, images] of wanted) if (!images.length) wanted.delete(key);
  for (const [key, section] of sections) {
    if (wanted.has(key)) continue;
    section.element.remove();
    sections.delete(key);
  }
  let before = null;
  for (const [key, images] of wanted) {
    if (!sections.has(key)) sections.set(key, makeSection(key));
    const section = sections.get(key);
    section.images = images;
    section.count.textContent = counted(images.length, "image");
    const following = before ? before.nextSibling : grid.firstChild;
    if (following !== section.element) grid.insertBefore(section.element, following);
    before = section.element;
  }
  order = [...wanted.values()].flat();
  const place = new Set(order);
  for (const image of selected) if (!place.has(image)) selected.delete(image);
  if (!place.has(active)) active = order.length ? order[0] : -1;
  byId("nothing").hidden = order.length > 0;
  const hidden = data.audited.filter((image) => !decisionOf(image)).length;
  byId("found").textContent = `${counted(order.length, "image")} here${hidden ? `, ${hidden.toLocaleString("en")} more kept for the audit` : ""}`;
  layOut();
}

function makeSection(key) {
  const id = `section-${key < 0 ? "all" : key}`;
  const title = key < 0 ? "All images" : categories[key].shown;
  const count = element("span", { className: "count" });
  const heading = element("h2", { id, tabIndex: -1 }, title, " ", count);
  const body = element("div", { role: "listbox", ariaMultiSelectable: "true", className: "cards" });
  body.setAttribute("aria-labelledby", id);
  return { element: element("section", {}, heading, body), body, count, images: [], cards: new Map() };
}

let columns = 1, side = SIDES.m, width = 0;

function layOut() {
  // Find how many columns there are, give each section its height, and draw what is in view.
  if (byId("browse").hidden) return;
  side = SIDES[view.size];
  const room = grid.clientWidth;
  columns = Math.max(view.size === "l" ? 1 : 2, Math.floor((room + GAP) / (side + GAP)));
  width = (room + GAP) / columns - GAP;
  const picture = Math.min(width, side * 1.25);
  grid.style.setProperty("--picture", `${picture}px`);
  for (const section of sections.values()) {
    section.row = picture + CAPTION + GAP;
    section.body.style.height = `${Math.ceil(section.images.length / columns) * section.row}px`;
  }
  draw();
}

function draw() {
  if (byId("browse").hidden) return;
  for (const section of sections.values()) {
    const { top } = section.body.getBoundingClientRect(), rows = Math.ceil(section.images.length / columns);
    const from = Math.min(rows, Math.max(0, Math.floor((-top - 300) / section.row)));
    const to = Math.min(rows, Math.max(0, Math.ceil((innerHeight - top + 300) / section.row)));
    const wanted = new Map();
    for (let at = from * columns; at < Math.min(to * columns, section.images.length); at++) wanted.set(section.images[at], at);
    // The card with the focus stays, so that the focus does.
    const place = section.images.indexOf(active);
    if (place >= 0) wanted.set(active, place);
    for (const [image, card] of section.cards) {
      if (wanted.has(image)) continue;
      card.remove();
      section.cards.delete(image);
    }
    for (const [image, at] of wanted) {
      if (!section.cards.has(image)) {
        section.cards.set(image, makeCard(image));
        section.body.append(section.cards.get(image));
      }
      drawCard(section.cards.get(image), image, at, section);
    }
  }
  drawSelection();
}

function makeCard(image) {
  const frame = element("span", { className: "frame" });
  if (image in data.problems) frame.append(element("span", { className: "problem" }, `No thumbnail: ${data.problems[image]}`));
  else frame.append(element("img", { src: smallPicture(image), alt: "", draggable: false }));
  const caption = element("span", { className: "caption" }, element("b"), " ", element("bdi"));
  const card = element("div", { role: "option", id: `card-${image}`, className: "card", title: [shownName(image), rightsOf(image)].filter(Boolean).join("\n") },
    frame, element("span", { className: "meter" }, element("i")), caption);
  if (hasRights) card.append(element("span", { className: "rights" }, element("bdi", {}, rightsOf(image))));
  card.dataset.image = image;
  return card;
}

function drawCard(card, image, at, section) {
  const decision = decisionOf(image), certainty = current.certainties[image];
  const { shown } = categories[categoryShown(image)];
  card.style.width = `${width}px`;
  card.style.transform = `translate(${(at % columns) * (width + GAP)}px, ${Math.floor(at / columns) * section.row}px)`;
  card.tabIndex = image === active ? 0 : -1;
  card.setAttribute("aria-selected", String(selected.has(image)));
  card.setAttribute("aria-setsize", section.images.length);
  card.setAttribute("aria-posinset", at + 1);
  card.classList.toggle("decided", Boolean(decision));
  card.classList.toggle("changed", !decision && isChanged(image));
  card.dataset.level = decision ? "decided" : certainty >= 0.8 ? "high" : certainty >= 0.5 ? "middle" : "low";
  card.querySelector(".meter i").style.width = `${100 * (decision ? 1 : certainty || 0)}%`;
  const [about, name] = card.querySelector(".caption").children;
  about.textContent = decision ? "✓" : percent(certainty);
  const [first, other] = view.group === "category" ? [baseName(image), shown] : [shown, baseName(image)];
  name.textContent = first;
  card.setAttribute("aria-label", `${about.textContent} ${first}, ${other}${decision ? ", decided" : ""}`);
}

// Selecting.

function sectionOf(image) {
  for (const section of sections.values()) if (section.images.includes(image)) return section;
  return null;
}

function focusCard(image) {
  if (image < 0 || !order.includes(image)) return;
  active = image;
  const section = sectionOf(image), at = section.images.indexOf(image);
  const top = section.body.getBoundingClientRect().top + Math.floor(at / columns) * section.row;
  const heading = section.element.firstChild; // which sticks
  const above = parseFloat(getComputedStyle(heading).top) + heading.offsetHeight, below = innerHeight - (byId("selection").offsetHeight + 10);
  if (top < above) scrollBy(0, top - above);
  else if (top + section.row > below) scrollBy(0, top + section.row - below);
  draw();
  section.cards.get(image).focus({ preventScroll: true });
}

function selectOnly(images) {
  selected.clear();
  images.forEach((image) => selected.add(image));
  draw();
}

function selectTo(image, base = new Set()) {
  // Select the range from the anchor on.
  const [from, to] = [order.indexOf(anchor), order.indexOf(image)].sort((a, b) => a - b);
  selectOnly([...base, ...order.slice(Math.max(0, from), to + 1)]);
}

function toggle(image) {
  if (selected.has(image)) selected.delete(image);
  else selected.add(image);
  anchor = image;
  draw();
}

function drawSelection() {
  byId("selection").hidden = selected.size === 0;
  if (selected.size === 0) return;
  const labels = new Set([...selected].map((image) => categories[categoryShown(image)].shown));
  byId("selected").textContent = `${counted(selected.size, "image")} selected`;
  byId("confirm").firstChild.textContent = labels.size === 1 ? `It’s ${[...labels][0]} ` : "As answered ";
  byId("like").hidden = !(features && selected.size === 1 && hasFeatures([...selected][0]));
  byId("undecide").hidden = ![...selected].some(decisionOf);
}

function decideSelected(labelOf) {
  const images = selected.size ? [...selected] : active >= 0 ? [active] : [];
  if (!images.length) return;
  const last = Math.max(...images.map((image) => order.indexOf(image)));
  const following = order.slice(last + 1).find((image) => !images.includes(image));
  const pairs = images.map((image) => [image, labelOf(image)]);
  selected.clear();
  decide(pairs);
  const labels = new Set(pairs.map(([, label]) => shownLabel(label)));
  say(`${counted(pairs.length, "image")} decided${labels.size === 1 ? `: ${[...labels][0]}` : ""}.`);
  arrange();
  focusCard(following ?? active);
}

const confirmSelected = () => decideSelected((image) => categories[categoryShown(image)].label);

function showAlike(image) {
  askLikeness(image, (likeness) => {
    alike = { image, likeness };
    const option = byId("sort-like");
    option.hidden = option.disabled = false;
    option.textContent = `like ${baseName(image)}`;
    byId("sort").value = view.sort = "like";
    byId("group").value = view.group = "none";
    selected.clear();
    active = image;
    arrange();
    scrollTo(0, 0);
    focusCard(image);
  });
}

// By mouse, pen and finger.

const imageAt = (target) => {
  const card = target.closest && target.closest(".card");
  return card ? Number(card.dataset.image) : -1;
};
let drag = null;

grid.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.pointerType === "touch") return;
  const base = event.ctrlKey || event.metaKey || event.shiftKey ? new Set(selected) : new Set();
  drag = { x: event.pageX, y: event.pageY, base, moved: false };
});

addEventListener("pointermove", (event) => {
  if (!drag) return;
  if (!drag.moved && Math.hypot(event.pageX - drag.x, event.pageY - drag.y) < 6) return;
  drag.moved = true;
  if (event.clientY > innerHeight - 30) scrollBy(0, 20);
  else if (event.clientY < 30) scrollBy(0, -20);
  const [left, right] = [drag.x, event.pageX].sort((a, b) => a - b), [top, bottom] = [drag.y, event.pageY].sort((a, b) => a - b);
  Object.assign(byId("band").style, {
    left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px`,
  });
  byId("band").hidden = false;
  selectOnly([...drag.base, ...within(left, top, right, bottom)]);
});

addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { moved } = drag;
  drag = null;
  byId("band").hidden = true;
  if (moved) swallow = event.timeStamp;
});
addEventListener("pointercancel", () => {
  drag = null;
  byId("band").hidden = true;
});
let swallow = -1; // the click that ends a drag

function within(left, top, right, bottom) {
  // The images whose cards a rectangle of the page touches.
  const found = [];
  for (const section of sections.values()) {
    const box = section.body.getBoundingClientRect(), x = box.left + scrollX, y = box.top + scrollY;
    section.images.forEach((image, at) => {
      const cardX = x + (at % columns) * (width + GAP), cardY = y + Math.floor(at / columns) * section.row;
      if (cardX < right && cardX + width > left && cardY < bottom && cardY + section.row - GAP > top) found.push(image);
    });
  }
  return found;
}

grid.addEventListener("click", (event) => {
  if (event.timeStamp - swallow < 50) return;
  const image = imageAt(event.target);
  if (image < 0) {
    selectOnly([]);
    return;
  }
  active = image;
  if (event.shiftKey && anchor >= 0) selectTo(image);
  else if (event.ctrlKey || event.metaKey || event.pointerType === "touch") toggle(image);
  else {
    selectOnly(selected.size === 1 && selected.has(image) ? [] : [image]);
    anchor = image;
  }
  focusCard(image);
});

grid.addEventListener("dblclick", (event) => {
  const image = imageAt(event.target);
  if (image >= 0) zoom(image);
});

// By keyboard.

function moveBy(key) {
  // The image that a key leads to.
  const at = order.indexOf(active), section = sectionOf(active);
  if (!section) return -1;
  const own = section.images.indexOf(active), all = [...sections.values()].filter(({ images }) => images.length);
  const page = Math.max(1, Math.floor((innerHeight - 200) / section.row)) * columns;
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -page, PageDown: page };
  if (key === "Home" || key === "End") return order[key === "Home" ? 0 : order.length - 1];
  if (key in steps) return order[Math.min(order.length - 1, Math.max(0, at + steps[key]))];
  const sections_ = all.findIndex((one) => one === section), column = own % columns;
  if (key === "ArrowDown") {
    if (Math.floor(own / columns) < Math.floor((section.images.length - 1) / columns)) {
      return section.images[Math.min(section.images.length - 1, own + columns)];
    }
    const next = all[sections_ + 1];
    return next ? next.images[Math.min(column, next.images.length - 1)] : active;
  }
  if (own >= columns) return section.images[own - columns];
  const former = all[sections_ - 1];
  if (!former) return active;
  const lastRow = Math.floor((former.images.length - 1) / columns) * columns;
  return former.images[Math.min(former.images.length - 1, lastRow + column)];
}

function gridKey(event) {
  // Returns whether it was one of the keys.
  const { key } = event, command = event.ctrlKey || event.metaKey;
  if (/^(Arrow|Page)|^(Home|End)$/.test(key)) {
    const image = moveBy(key);
    if (image < 0) return false;
    if (event.shiftKey) {
      if (anchor < 0 || !selected.size) anchor = active;
      selectTo(image);
    }
    focusCard(image);
  } else if (key === " ") toggle(active);
  else if (command && key.toLowerCase() === "a") selectOnly(sectionOf(active)?.images ?? []);
  else if (command) return false;
  else if (key === "Escape") selectOnly([]);
  else if (key === "Enter") confirmSelected();
  else if (/^[1-5]$/.test(key)) {
    const choice = ranked(active)[Number(key) - 1];
    if (!choice) return false;
    decideSelected(() => categories[choice[0]].label);
  } else if (key === "Backspace") undo();
  else if (key === "z" || key === "Z") keyOrName(key, () => zoom(active), nameActive);
  else if (SIGN.test(key)) nameActive(key === "/" ? "" : key);
  else return false;
  return true;
}

function nameActive(letters) {
  if (!selected.size) toggle(active);
  browseFinder.start(letters);
}

grid.addEventListener("focusin", (event) => {
  const image = imageAt(event.target);
  if (image >= 0 && image !== active) {
    active = image;
    draw();
  }
});

for (const name of ["group", "sort", "show", "size"]) {
  byId(name).addEventListener("change", (event) => {
    view[name] = event.target.value;
    arrange();
  });
}
byId("name").addEventListener("input", (event) => {
  view.name = event.target.value.trim().toLowerCase();
  arrange();
});
byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("confirm").addEventListener("click", confirmSelected);
byId("like").addEventListener("click", () => showAlike([...selected][0]));
byId("enlarge").addEventListener("click", () => zoom(selected.has(active) ? active : [...selected][0]));
byId("undecide").addEventListener("click", () => {
  forget([...selected].filter(decisionOf));
  arrange();
});
byId("deselect").addEventListener("click", () => {
  selectOnly([]);
  focusCard(active);
});
let drawing = 0;
addEventListener("scroll", () => {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}, { passive: true });
new ResizeObserver(layOut).observe(grid);
new ResizeObserver(([{ target }]) => {
  const height = getComputedStyle(target).position === "sticky" ? target.offsetHeight : 0;
  document.documentElement.style.setProperty("--tools", `${height}px`);
}).observe(byId("tools"));
