// A field to find a category by a few letters, or to add one: a combobox.

const SIGN = /^[\p{L}\p{N}\p{P}\p{S}]$/u; // a key that writes, but for a blank

function wordsOf(category) {
  return `${category.shown} ${category.full}`.toLowerCase();
}

function matching(query) {
  // Categories that a query may mean, the best first: by the label's start, a word's start, any part, then by likeness.
  const text = query.trim().toLowerCase();
  const rank = ({ shown, full, label }) => {
    const words = wordsOf({ shown, full });
    if (shown.toLowerCase().startsWith(text)) return 0;
    if (words.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(text))) return 1;
    if (text.length > 1 && words.includes(text)) return 2;
    // Names with other digits, such as "plate 1" and "plate 2", are alike, but never meant for each other.
    return text.length > 3 && digitsOf(text) === digitsOf(label) && distance(text, label.toLowerCase()) <= 2 ? 3 : 4;
  };
  return categories.map((category) => [rank(category), category]).filter(([value]) => value < 4)
    .sort(([a], [b]) => a - b).map(([, category]) => category);
}

const digitsOf = (text) => text.replace(/\P{N}/gu, "");

function distance(a, b) {
  // How many letters differ: Levenshtein's.
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

function makeFinder(root, choose, leave) {
  // `choose` gets the label of a category; `leave` is called when the reader gives up.
  const input = root.querySelector("input"), list = root.querySelector("[role=listbox]");
  let options = [], active = -1;

  function close() {
    list.hidden = true;
    options = [];
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(number) {
    active = options.length ? (number + options.length) % options.length : -1;
    options.forEach(({ element: one }, place) => one.setAttribute("aria-selected", String(place === active)));
    if (active < 0) return;
    input.setAttribute("aria-activedescendant", options[active].element.id);
    const { offsetTop: top, offsetHeight: height } = options[active].element; // scrollIntoView would move the page, too
    list.scrollTop = Math.min(top, Math.max(list.scrollTop, top + height - list.clientHeight));
  }

  function open() {
    const label = canonical(input.value);
    const found = matching(label).map((category) => ({ label: category.label, text: category.shown, note: category.full }));
    const known = found.some((one) => one.label.toLowerCase() === label.toLowerCase());
    const objection = objectionTo(label);
    if (label && !known) found.push({ label: objection ? "" : label, text: label, note: objection || "a new category" });
    options = found.map((one, number) => {
      const made = element("div", { role: "option", id: `${list.id}-${number}`, ariaDisabled: String(!one.label) },
        one.text, element("small", {}, one.note));
      made.addEventListener("pointerdown", (event) => event.preventDefault());
      made.addEventListener("click", () => take(one.label));
      return { ...one, element: made };
    });
    list.replaceChildren(...options.map((one) => one.element));
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(options.length > 0));
    mark(0);
  }

  function take(label) {
    if (!label) return;
    input.value = "";
    close();
    choose(label);
  }

  input.addEventListener("input", () => (input.value.trim() ? open() : close()));
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (list.hidden) open();
      else mark(active + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      if (active >= 0 && !list.hidden) take(options[active].label);
    } else if (event.key === "Escape") {
      input.value = "";
      close();
      leave();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    start(letters) {
      input.value = letters;
      input.focus({ preventScroll: true });
      open();
    },
    text: () => input.value,
    clear() {
      input.value = "";
      close();
    },
  };
}

// A letter that is a key of its own, such as S, also begins the names of categories: it acts unless another letter follows.

const SECOND_LETTER = 1000; // milliseconds
let held = null;

function keyOrName(key, act, name) {
  if (!categories.some(({ label }) => label.toLowerCase().startsWith(key.toLowerCase()))) act();
  else held = { key, act, name, timer: setTimeout(() => releaseKey(), SECOND_LETTER) };
}

function releaseKey() {
  const { act, timer } = held;
  clearTimeout(timer);
  held = null;
  act();
}

function continueName(key) {
  // Returns whether the key is the second letter of a name; any other one lets a waiting key act first.
  if (!held) return false;
  if (!/^\p{L}$/u.test(key) || key.toLowerCase() === held.key.toLowerCase()) {
    releaseKey();
    return false;
  }
  const { key: first, name, timer } = held;
  clearTimeout(timer);
  held = null;
  name(first + key);
  return true;
}
