"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const choices = JSON.parse(byId("choices").textContent);
  const groups = [...document.querySelectorAll(".group")].map((section) => ({
    section,
    cards: [...section.querySelectorAll(".card")].map((element) => ({
      element,
      name: element.dataset.f.toLowerCase(),
      answer: element.dataset.a,
      truth: element.dataset.t,
      chance: "p" in element.dataset ? 100 * Number(element.dataset.p) : NaN,
    })),
  }));
  const total = groups.reduce((sum, group) => sum + group.cards.length, 0);
  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  // Corrections: name -> category. Kept for the next time that the page is opened, where the browser allows it.
  const corrections = new Map();
  const place = `herbariograph ${document.body.dataset.identity}`;
  const correctable = byId("corrections") !== null;

  function keep() {
    try {
      if (corrections.size) localStorage.setItem(place, JSON.stringify([...corrections]));
      else localStorage.removeItem(place);
    } catch (error) { /* then they last as long as the page is open */ }
  }

  function kept() {
    try {
      return new Map(JSON.parse(localStorage.getItem(place)) || []);
    } catch (error) {
      return new Map();
    }
  }

  // What takes long for five thousand images is done for each when it comes into view: a picture, a menu's choices.
  let pictures = null;

  function draw(image) {
    pictures = pictures || byId("pictures").textContent.split("\n");
    image.src = `data:image/webp;base64,${pictures[image.dataset.i]}`;
  }

  function menuOf(card) {
    let menu = card.querySelector(".correct");
    if (!menu) {
      const own = choices["t" in card.dataset ? card.dataset.t : card.dataset.a].value;
      menu = document.createElement("select");
      menu.className = "correct";
      menu.dataset.own = own;
      menu.setAttribute("aria-labelledby", `correct ${card.querySelector(".name").id}`);
      menu.append(...choices.map(({ text, value }) => new Option(text, value, value === own, value === own)));
      card.append(menu);
    }
    return menu;
  }

  function prepare(card) {
    card.querySelectorAll("img:not([src])").forEach(draw);
    if (correctable && card.closest(".group")) menuOf(card);
  }

  function mark(menu) {
    const card = menu.closest(".card");
    const changed = menu.value !== menu.dataset.own;
    card.classList.toggle("changed", changed);
    if (changed) corrections.set(card.dataset.f, menu.value);
    else corrections.delete(card.dataset.f);
  }

  function tell() {
    byId("corrected").textContent = corrections.size ? `${count(corrections.size, "correction")}.` : "No corrections yet.";
    byId("download").disabled = byId("discard").disabled = corrections.size === 0;
  }

  function download() {
    // In the order of the page.
    const lines = ["FILE\tCATEGORY"];
    for (const group of groups) {
      for (const { element } of group.cards) {
        const name = element.dataset.f;
        if (corrections.has(name)) lines.push(`${name}\t${corrections.get(name)}`);
      }
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/tab-separated-values" }));
    link.download = "corrections.tsv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function startCorrecting() {
    document.addEventListener("change", (event) => {
      if (!event.target.matches(".correct")) return;
      mark(event.target);
      keep();
      tell();
    });
    const values = new Set(choices.map((choice) => choice.value));
    const former = kept();
    if (former.size) {
      for (const { cards } of groups) {
        for (const { element } of cards) {
          const value = former.get(element.dataset.f);
          if (!values.has(value)) continue;
          const menu = menuOf(element);
          menu.value = value;
          mark(menu);
        }
      }
    }
    byId("download").addEventListener("click", download);
    byId("discard").addEventListener("click", () => {
      if (!confirm(`Discard ${count(corrections.size, "correction")}?`)) return;
      for (const element of document.querySelectorAll(".card.changed")) {
        const menu = element.querySelector(".correct");
        menu.value = menu.dataset.own;
        mark(menu);
      }
      keep();
      tell();
      if (form.elements.corrected.checked) filter();
    });
    byId("corrections").hidden = false;
    tell();
  }

  // The filter.
  const form = byId("filter");
  const found = byId("found");

  function value(name) {
    return form.elements[name] ? form.elements[name].value : "";
  }

  function checked(name) {
    return Boolean(form.elements[name] && form.elements[name].checked);
  }

  function filter() {
    const truth = value("true"), answer = value("answer"), name = value("name").trim().toLowerCase();
    const low = value("low") === "" ? -Infinity : Number(value("low"));
    const high = value("high") === "" ? Infinity : Number(value("high"));
    const bounded = low !== -Infinity || high !== Infinity;
    const wrong = checked("wrong"), corrected = checked("corrected");
    let shown = 0;
    for (const { section, cards } of groups) {
      let here = 0;
      for (const card of cards) {
        const fits = (!truth || card.truth === truth) && (!answer || card.answer === answer)
          && (!name || card.name.includes(name)) && (!bounded || (card.chance >= low - 1e-9 && card.chance <= high + 1e-9))
          && (!wrong || card.truth !== card.answer) && (!corrected || card.element.classList.contains("changed"));
        card.element.hidden = !fits;
        here += fits;
      }
      section.hidden = here === 0;
      shown += here;
    }
    found.textContent = shown === total ? `${count(total, "image")} here.` : `${shown.toLocaleString("en")} of ${count(total, "image")} here.`;
    byId("nothing").hidden = shown > 0 || total === 0;
    for (const button of document.querySelectorAll(".matrix button")) {
      const pressed = button.dataset.true === truth && button.dataset.answer === answer;
      button.setAttribute("aria-pressed", String(pressed));
    }
  }

  let waiting = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["input", "change"]) {
    form.addEventListener(kind, () => {
      clearTimeout(waiting);
      waiting = setTimeout(filter, 60);
    });
  }
  form.addEventListener("reset", () => setTimeout(filter, 0));
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".matrix button");
    if (!button) return;
    form.reset();
    form.elements.true.value = button.dataset.true;
    form.elements.answer.value = button.dataset.answer;
    setTimeout(() => {
      filter();
      document.querySelector(".group:not([hidden]) h3").focus();
    }, 0);
  });
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      prepare(target);
      watcher.unobserve(target);
    }
  }, { rootMargin: "300px" });
  document.querySelectorAll(".card").forEach((card) => watcher.observe(card));
  document.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) prepare(card); // so that the next one by keyboard is its menu
  });
  addEventListener("beforeprint", () => document.querySelectorAll("img:not([src])").forEach(draw));
  form.hidden = false;
  if (correctable) startCorrecting();
  addEventListener("pageshow", filter); // a browser may have put back what was in the fields
  filter();
})();
