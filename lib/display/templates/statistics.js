// How sure a share is that was measured on a sample.

function interval(right, count) {
  // The 95 % interval of a share (Wilson, 1927).
  const z = 1.959964, share = right / count, middle = share + (z * z) / (2 * count);
  const half = z * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
  return [Math.max(0, (middle - half) / (1 + (z * z) / count)), Math.min(1, (middle + half) / (1 + (z * z) / count))];
}

function measured() {
  // What the images that were decided for measuring say: of all, and of each answer with enough of them.
  const enough = 10, rows = [];
  for (const [name, { label, role }] of decisions) {
    const image = numberOf.get(name);
    if (role === "audit" && image !== undefined) rows.push({ image, truth: placeOf.get(label) });
  }
  const before = rows.filter(({ image, truth }) => model.answers[image] === truth).length;
  const after = rows.filter(({ image, truth }) => current.answers[image] === truth).length;
  const groups = categories.map((_, category) => {
    const own = rows.filter(({ image }) => current.answers[image] === category);
    return { category, count: own.length, right: own.filter(({ truth }) => truth === category).length };
  });
  return { count: rows.length, before, after, groups: groups.filter(({ count }) => count >= enough) };
}
