// Teach and Audit: one image at a time, and what it is.

const ask = {
  role: "teach", image: -1, skipped: { teach: new Set(), audit: new Set() },
  agreed: [], // for each answer of this visit whether the page had guessed it
  previous: null, // the answer that the page is learning
  returning: undefined, // the image whose answer was taken back
};
const askFinder = makeFinder(byId("ask-finder"), (label) => answerWith(label), () => byId("ask").focus());

function showAsk(role) {
  ask.role = role;
  byId("ask").setAttribute("aria-labelledby", `tab-${role}`);
  byId("ask").dataset.role = role;
  byId("choices").replaceChildren();
  askFinder.clear();
  byId("ask-said").textContent = "";
  nextImage();
}

function nextImage(image) {
  // Ask about an image, else the one that is to be asked next.
  const skipped = ask.skipped[ask.role];
  const [first = -1] = image === undefined ? leastSure(ask.role, skipped, 1) : [image];
  ask.image = first;
  drawQuestion();
  drawLearning();
}

function choicesNow() {
  // In an audit nothing hints at the answer: always all categories, in the order of how many images have them.
  if (ask.role === "teach") return ranked(ask.image).map(([category, chance]) => ({ category, chance }));
  const order = categories.map((_, category) => category);
  const images = (category) => data.countsBefore[category] ?? 0;
  return order.sort((a, b) => images(b) - images(a)).map((category) => ({ category }));
}

function drawQuestion() {
  const { image, role } = ask, done = image < 0;
  byId("ask-body").hidden = byId("ask-image").hidden = done;
  byId("ask-done").hidden = !done;
  if (done) {
    const skipped = ask.skipped[role].size;
    byId("ask-done-text").textContent = role === "teach"
      ? (skipped ? "All but the skipped images are decided." : "Every image of this page is decided.")
      : (skipped ? "All but the skipped images of the audit are decided." : "Every image of the audit is decided.");
    byId("again").hidden = skipped === 0;
    return;
  }
  const picture = byId("ask-picture");
  picture.src = largestPicture(image);
  picture.alt = baseName(image);
  byId("ask-name").textContent = baseName(image);
  byId("ask-folder").textContent = folderOf(image);
  byId("ask-rights").textContent = rightsOf(image);
  if (byId("ask-image").getBoundingClientRect().top < 0) scrollTo(0, 0);
  drawChoices();
}

function drawChoices() {
  const list = byId("choices"), choices = choicesNow();
  while (list.children.length > choices.length) list.lastChild.remove();
  while (list.children.length < choices.length) {
    const number = list.children.length;
    const button = element("button", { type: "button" }, element("kbd"), element("span", { className: "label" }),
      element("span", { className: "chance" }), element("span", { className: "meter" }, element("i")));
    button.addEventListener("click", () => answerWith(categories[choicesNow()[number].category].label));
    list.append(element("li", {}, button));
  }
  choices.forEach(({ category, chance }, number) => {
    const [key, label, share, meter] = list.children[number].firstChild.children;
    key.textContent = number < (ask.role === "teach" ? 5 : 9) ? String(number + 1) : "";
    label.textContent = categories[category].shown;
    list.children[number].firstChild.title = categories[category].full;
    share.textContent = chance === undefined || chance === null ? "" : percent(chance);
    meter.firstChild.style.width = `${100 * (chance || 0)}%`;
  });
}

function answerWith(label) {
  const { image, role } = ask;
  if (image < 0 || learning) return; // the next image is not known before the page has learnt
  const guess = categories[current.answers[image]].label;
  if (role === "teach") ask.agreed.push(guess === label);
  ask.previous = { label, answers: current.answers };
  ask.skipped[role].delete(image);
  askFinder.clear();
  byId("ask").focus({ preventScroll: true }); // else Enter would press the same button for the next image
  decide([[image, label]]);
  if (role === "audit") {
    nextImage();
    tell(`${shownLabel(label)}.`, nameOfNext());
  }
}

function askAnswered() {
  // The page has learnt.
  if (ask.role !== "teach") {
    drawLearning();
    return;
  }
  const { previous } = ask;
  if (ask.returning !== undefined) {
    returnToImage();
    return;
  }
  nextImage();
  if (previous) {
    const changed = current.answers.reduce((sum, answer, image) => sum + (answer !== previous.answers[image]), 0);
    tell(`${shownLabel(previous.label)}: ${counted(changed, "answer")} changed.`, nameOfNext());
    ask.previous = null;
  }
}

function tell(text, next) {
  // What comes next is seen; those who don't see it hear it.
  byId("ask-said").replaceChildren(text, element("span", { className: "heard" }, ` ${next}`));
}

const shownLabel = (label) => (placeOf.has(label) ? categories[placeOf.get(label)].shown : label);

function nameOfNext() {
  if (ask.image < 0) return "That was the last one.";
  const likely = ask.role === "teach" ? `, likely ${categories[ranked(ask.image, 1)[0][0]].shown}` : "";
  return `Next: ${baseName(ask.image)}${likely}.`;
}

function skipImage() {
  if (ask.image < 0 || learning) return;
  ask.skipped[ask.role].add(ask.image);
  askFinder.clear();
  nextImage();
  tell("Skipped.", nameOfNext());
}

function takeBackAnswer() {
  const [image] = takeBack(ask.role);
  if (image === undefined) return;
  if (ask.role === "teach") ask.agreed.pop();
  ask.previous = null;
  ask.returning = image;
  byId("ask-said").textContent = `Taken back: ${baseName(image)}.`;
  if (ask.role === "audit" || !learning) returnToImage();
}

function returnToImage() {
  nextImage(ask.returning);
  ask.returning = undefined;
}

function drawLearning() {
  byId("learning").hidden = ask.role !== "teach";
  byId("audit-result").hidden = ask.role !== "audit";
  if (ask.role === "audit") drawAudit();
  else {
    const changed = current.answers.reduce((sum, _, image) => sum + isChanged(image), 0);
    byId("figure-taught").textContent = taughtCount().toLocaleString("en");
    byId("figure-changed").textContent = changed.toLocaleString("en");
    byId("figure-unsure").textContent = unsureCount().toLocaleString("en");
    const last = ask.agreed.slice(-20);
    byId("agreed").textContent = last.length < 5 ? ""
      : `${last.filter(Boolean).length} of your last ${last.length} decisions were the page’s own first answer.`;
    const skipped = new Set([...ask.skipped.teach, ask.image]);
    byId("next").replaceChildren(...leastSure("teach", skipped, 6).map((image) => (
      element("img", { src: smallPicture(image), alt: "", title: baseName(image) }))));
  }
}

function unsureCount() {
  // Images whose best answer is less likely than all others together.
  let sum = 0;
  for (let image = 0; image < COUNT; image++) sum += !decisionOf(image) && current.certainties[image] < 0.5;
  return sum;
}

function drawAudit() {
  const { count, before, after, groups } = measured();
  const drawn = data.audited.length;
  byId("audit-count").textContent = `${count.toLocaleString("en")} of ${counted(drawn, "image")} decided, drawn at random from the whole folder.`;
  byId("audit-figures").hidden = count === 0;
  if (count === 0) return;
  drawShare("before", before, count);
  drawShare("after", after, count);
  byId("after-row").hidden = taughtCount() === 0;
  byId("audit-note").textContent = count < 50 ? "With fewer than 50 images the intervals are wide: audit more before you quote a number." : "";
  byId("audit-groups").hidden = groups.length === 0;
  byId("audit-groups").tBodies[0].replaceChildren(...groups.map(({ category, count: all, right }) => {
    const [low, high] = interval(right, all).map(percent);
    return element("tr", {}, element("th", { scope: "row" }, categories[category].shown), element("td", {}, `${right} of ${all}`),
      element("td", {}, `${percent(right / all)} (${low} to ${high})`));
  }));
}

function drawShare(id, right, count) {
  const [low, high] = interval(right, count);
  byId(id).textContent = percent(right / count);
  byId(`${id}-interval`).textContent = `95 % interval ${percent(low)} to ${percent(high)}`;
  const [range, dot] = byId(`${id}-range`).children;
  range.style.left = `${100 * low}%`;
  range.style.width = `${100 * (high - low)}%`;
  dot.style.left = `${(100 * right) / count}%`;
}

function askKey(event) {
  // Returns whether it was one of the keys.
  const { key } = event, most = ask.role === "teach" ? 5 : 9, sign = key === "/" ? "" : key, begun = askFinder.text();
  if (begun && SIGN.test(key)) askFinder.start(begun + sign);
  else if (key === "Enter" && ask.role === "teach" && ask.image >= 0) answerWith(categories[choicesNow()[0].category].label);
  else if (/^[1-9]$/.test(key) && Number(key) <= Math.min(most, byId("choices").children.length)) {
    answerWith(categories[choicesNow()[Number(key) - 1].category].label);
  } else if (key === "Backspace") takeBackAnswer();
  else if (key === "s" || key === "S") keyOrName(key, skipImage, askFinder.start);
  else if (key === "z" || key === "Z") keyOrName(key, () => zoom(ask.image), askFinder.start);
  else if (SIGN.test(key)) askFinder.start(sign);
  else return false;
  return true;
}

byId("skip").addEventListener("click", skipImage);
byId("back").addEventListener("click", takeBackAnswer);
byId("zoom").addEventListener("click", () => zoom(ask.image));
byId("ask-open").addEventListener("click", () => zoom(ask.image));
byId("again").addEventListener("click", () => {
  ask.skipped[ask.role].clear();
  nextImage();
});
