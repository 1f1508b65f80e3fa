// The answers that the page shows: of the model, and of what the reader taught it.

const model = {
  // As the table has them.
  answers: Int32Array.from(data.answers),
  certainties: Float32Array.from(data.probabilities, (value) => value ?? NaN),
};
let current = model; // as taught; `probabilities` has all of them once the learner has answered
let learner = null, learning = false, waiting = false, request = 0;
let features = null; // as float16s
let awaited = null; // what to call with the likeness that was asked for

function startLearner() {
  const kernel = arrayOf("kernel", Float32Array), bits = arrayOf("features", Uint16Array);
  const width = kernel.length / data.modelCategories - 1;
  features = { bits, width };
  learner = new Worker(URL.createObjectURL(new Blob([byId("learner").textContent], { type: "text/javascript" })));
  learner.onmessage = ({ data: answer }) => (answer.likeness ? awaited(answer.likeness) : learnt(answer));
  learner.onerror = () => learnerFailed();
  learner.postMessage({ features: bits, kernel, width, ridge: data.ridge });
}

function learn() {
  // One request at a time; the last state counts.
  if (!learner) return;
  if (learning) {
    waiting = true;
    return;
  }
  const rows = [], targets = [], added = [];
  for (const [name, { label, role }] of decisions) {
    const image = numberOf.get(name);
    if (role !== "teach" || image === undefined || !placeOf.has(label) || !hasFeatures(image)) continue;
    let target = placeOf.get(label);
    if (target >= data.modelCategories) {
      if (!added.includes(label)) added.push(label);
      target = data.modelCategories + added.indexOf(label);
    }
    rows.push(image);
    targets.push(target);
  }
  learning = { added, taught: rows.length };
  learner.postMessage({ number: ++request, rows, targets, added });
}

function learnt({ probabilities, milliseconds }) {
  const { added, taught } = learning, width = data.modelCategories + added.length;
  const own = Array.from({ length: width }, (_, c) => (
    c < data.modelCategories ? c : placeOf.get(added[c - data.modelCategories])
  ));
  const next = {
    probabilities, width, own, taught, milliseconds,
    answers: model.answers.slice(), certainties: model.certainties.slice(), margins: new Float32Array(COUNT).fill(NaN),
  };
  for (let image = 0; image < COUNT; image++) {
    if (!hasFeatures(image)) continue;
    let first = 0, second = -1;
    const start = image * width;
    for (let c = 1; c < width; c++) {
      if (probabilities[start + c] > probabilities[start + first]) [first, second] = [c, first];
      else if (second < 0 || probabilities[start + c] > probabilities[start + second]) second = c;
    }
    next.margins[image] = probabilities[start + first] - (second < 0 ? 0 : probabilities[start + second]);
    if (taught) {
      next.answers[image] = own[first];
      next.certainties[image] = probabilities[start + first];
    }
  }
  current = next;
  learning = false;
  if (waiting) {
    waiting = false;
    learn();
  } else answersChanged();
}

const hasFeatures = (image) => features !== null && (features.bits[image * features.width] & 0x7fff) <= 0x7c00; // else it is NaN

// What stands for an image: the person's decision, else the answer.
function categoryShown(image) {
  const decision = decisionOf(image);
  return decision && placeOf.has(decision.label) ? placeOf.get(decision.label) : current.answers[image];
}

const isChanged = (image) => current.answers[image] !== model.answers[image];

function ranked(image, most = 5) {
  // The likeliest categories of an image: pairs of a category and its probability.
  if (!current.probabilities || !hasFeatures(image)) {
    const known = [[data.answers[image], data.probabilities[image]], [data.seconds[image], data.secondProbabilities[image]]];
    return known.filter(([category]) => category >= 0).slice(0, most);
  }
  const { probabilities, width, own } = current;
  const order = own.map((_, c) => c).sort((a, b) => probabilities[image * width + b] - probabilities[image * width + a]);
  return order.slice(0, most).map((c) => [own[c], probabilities[image * width + c]]);
}

function leastSure(role, except, most) {
  // The images to ask about: of those to teach with the ones of least margin, of those to measure with as drawn.
  const open = (image) => !decisionOf(image) && !except.has(image) && !(image in data.problems);
  if (role === "audit") return data.audited.filter(open).slice(0, most);
  const found = [];
  for (let image = 0; image < COUNT; image++) {
    if (!audited.has(image) && open(image) && hasFeatures(image)) found.push(image);
  }
  const margin = (image) => (current.margins ? current.margins[image]
    : (data.probabilities[image] ?? 0) - (data.secondProbabilities[image] ?? 0));
  return found.sort((a, b) => margin(a) - margin(b)).slice(0, most);
}

function askLikeness(image, receive) {
  // Ask the learner for the likeness of every image to one: the cosine of the angle between their features.
  awaited = receive;
  learner.postMessage({ like: image });
}
