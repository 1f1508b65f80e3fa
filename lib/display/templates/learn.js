"use strict";
// Learning, in a worker of its own: a linear change of the model's last layer, fitted to what the reader decided.
//
// An image is x = (features, 1) / sqrt(width + 1), its logits are (M + W) x. M is the model's last layer; W minimises
// the cross entropy of the taught images plus ridge / 2 times the sum of the squares of W. That is convex, so there is
// one W, whatever the way to it. A category that the model doesn't have starts with the mean of the other logits.

const PRECISION = 1e-6; // of the gradient's length
const MEMORY = 12; // steps that L-BFGS remembers
const MOST_STEPS = 1000;

// x of all images, their length, and M as an array of rows. All numbers are float64: with two kinds of arrays the inner
// loops take five times as long.
let images, size, modelRows, ridge;
let fitted = new Map(); // category, by its name or its number in the model -> row of W, to start from

function halves(bits) {
  // The numbers of float16s.
  const all = new Float32Array(65536);
  for (let code = 0; code < 65536; code++) {
    const exponent = (code >> 10) & 31, fraction = code & 1023;
    const value = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    all[code] = code & 0x8000 ? -value : value;
  }
  return Float32Array.from(bits, (code) => all[code]);
}

function begin({ features, kernel, width, ridge: given }) {
  ridge = given;
  const values = halves(features), count = values.length / width;
  size = width + 1;
  const scale = 1 / Math.sqrt(size);
  images = new Float64Array(count * size);
  for (let image = 0; image < count; image++) {
    for (let k = 0; k < width; k++) images[image * size + k] = values[image * width + k] * scale;
    images[image * size + width] = scale;
  }
  modelRows = [];
  for (let start = 0; start < kernel.length; start += size) {
    modelRows.push(Float64Array.from(kernel.subarray(start, start + size), (value) => value / scale));
  }
}

function product(a, startA, b, startB, length) {
  // Four sums at once: else each addition would wait for the one before.
  let one = 0, two = 0, three = 0, four = 0, k = 0;
  for (; k + 3 < length; k += 4) {
    one += a[startA + k] * b[startB + k];
    two += a[startA + k + 1] * b[startB + k + 1];
    three += a[startA + k + 2] * b[startB + k + 2];
    four += a[startA + k + 3] * b[startB + k + 3];
  }
  for (; k < length; k++) one += a[startA + k] * b[startB + k];
  return one + two + three + four;
}

function addTo(target, startTarget, factor, source, startSource, length) {
  for (let k = 0; k < length; k++) target[startTarget + k] += factor * source[startSource + k];
}

function toProbabilities(logits) {
  // In place; returns the logarithm of the sum of exponentials.
  let top = logits[0], sum = 0;
  for (let c = 1; c < logits.length; c++) if (logits[c] > top) top = logits[c];
  for (let c = 0; c < logits.length; c++) sum += logits[c] = Math.exp(logits[c] - top);
  for (let c = 0; c < logits.length; c++) logits[c] /= sum;
  return top + Math.log(sum);
}

function objective(taught, categories) {
  // A function of W that returns what is to be minimised and writes its gradient.
  const { rows, targets } = taught, base = Array.from(rows, (row) => logitsOf(row, categories));
  const logits = new Float64Array(categories.length);
  return (weights, gradient) => {
    let loss = (ridge / 2) * product(weights, 0, weights, 0, weights.length);
    for (let k = 0; k < weights.length; k++) gradient[k] = ridge * weights[k];
    rows.forEach((row, number) => {
      for (let c = 0; c < logits.length; c++) {
        logits[c] = base[number][c] + product(images, row * size, weights, c * size, size);
      }
      const wanted = logits[targets[number]];
      loss += toProbabilities(logits) - wanted;
      logits[targets[number]] -= 1;
      for (let c = 0; c < logits.length; c++) {
        if (Math.abs(logits[c]) > 1e-12) addTo(gradient, c * size, logits[c], images, row * size, size);
      }
    });
    return loss;
  };
}

function logitsOf(row, matrix) {
  return Float64Array.from(matrix, (weights) => product(images, row * size, weights, 0, size));
}

function minimise(evaluate, weights) {
  // L-BFGS with backtracking (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1). Changes `weights`.
  const length = weights.length, norm = (vector) => Math.sqrt(product(vector, 0, vector, 0, length));
  let gradient = new Float64Array(length), nextGradient = new Float64Array(length), next = new Float64Array(length);
  let loss = evaluate(weights, gradient), steps = 0;
  const past = [];
  for (; steps < MOST_STEPS && norm(gradient) > PRECISION; steps++) {
    const direction = gradient.slice();
    for (const one of past) {
      one.share = product(one.step, 0, direction, 0, length) / one.curvature;
      addTo(direction, 0, -one.share, one.turn, 0, length);
    }
    if (past.length) {
      const { turn, curvature } = past[0], scale = curvature / product(turn, 0, turn, 0, length);
      for (let k = 0; k < length; k++) direction[k] *= scale;
    }
    for (const one of [...past].reverse()) {
      addTo(direction, 0, one.share - product(one.turn, 0, direction, 0, length) / one.curvature, one.step, 0, length);
    }
    const slope = product(gradient, 0, direction, 0, length);
    let pace = past.length ? 1 : 1 / Math.max(1, norm(gradient)), nextLoss;
    for (; ; pace /= 2) {
      for (let k = 0; k < length; k++) next[k] = weights[k] - pace * direction[k];
      nextLoss = evaluate(next, nextGradient);
      if (nextLoss <= loss - 1e-4 * pace * slope) break;
      if (pace < 1e-9) return steps; // as near as the numbers' precision allows
    }
    const step = next.map((value, k) => value - weights[k]), turn = nextGradient.map((value, k) => value - gradient[k]);
    const curvature = product(step, 0, turn, 0, length);
    if (curvature > 0) past.unshift({ step, turn, curvature });
    if (past.length > MEMORY) past.pop();
    weights.set(next);
    loss = nextLoss;
    [gradient, nextGradient] = [nextGradient, gradient];
  }
  return steps;
}

function learn({ rows, targets, added }) {
  // Targets are numbers: first the model's categories, then those that were added, whose names are given.
  const mean = new Float64Array(size);
  for (const row of modelRows) addTo(mean, 0, 1 / modelRows.length, row, 0, size);
  const matrix = [...modelRows, ...added.map(() => mean)];
  const keys = matrix.map((_, c) => (c < modelRows.length ? c : added[c - modelRows.length]));
  const weights = new Float64Array(matrix.length * size);
  keys.forEach((key, c) => fitted.has(key) && weights.set(fitted.get(key), c * size));
  if (rows.length) minimise(objective({ rows, targets }, matrix), weights);
  else weights.fill(0);
  fitted = new Map(keys.map((key, c) => [key, weights.slice(c * size, (c + 1) * size)]));
  return probabilitiesOf(matrix.map((row, c) => row.map((value, k) => value + weights[c * size + k])));
}

function probabilitiesOf(matrix) {
  const count = images.length / size, found = new Float32Array(count * matrix.length);
  for (let image = 0; image < count; image++) {
    const logits = logitsOf(image, matrix);
    toProbabilities(logits);
    found.set(logits, image * matrix.length);
  }
  return found;
}

function likeness(image) {
  // The cosine of the angle between the features of an image and those of each.
  const count = images.length / size, cosines = new Float32Array(count), width = size - 1;
  for (let other = 0; other < count; other++) {
    const square = product(images, other * size, images, other * size, width);
    cosines[other] = product(images, other * size, images, image * size, width) / Math.sqrt(square || 1);
  }
  const own = cosines[image] || 1; // the length of its features
  return cosines.map((cosine) => cosine / own);
}

onmessage = ({ data }) => {
  if (data.features) begin(data);
  else if ("like" in data) postMessage({ likeness: likeness(data.like) });
  else {
    const started = performance.now(), probabilities = learn(data);
    postMessage({ probabilities, milliseconds: performance.now() - started }, [probabilities.buffer]);
  }
};
