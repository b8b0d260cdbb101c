/* The formulas of the figures, as tuplet.losses computes them: tests/docs/test_figures.py compares values and gradients.
   Scripts are plain ones, not modules, since a browser refuses modules on pages that are opened from a folder. */
"use strict";

globalThis.tuplet = { figures: {} };

tuplet.formulas = (() => {
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];
  const times = (k, a) => [k * a[0], k * a[1]];
  const norm = (a) => Math.hypot(a[0], a[1]);
  const unit = (a) => times(1 / norm(a), a);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const softplus = (z) => (z > 0 ? z : 0) + Math.log1p(Math.exp(-Math.abs(z)));
  const sigmoid = (z) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));

  function logSumExp(values) {
    const peak = Math.max(...values);
    return peak === -Infinity ? peak : peak + Math.log(sum(values.map((value) => Math.exp(value - peak))));
  }

  function softmax(values) {
    const total = logSumExp(values);
    return values.map((value) => Math.exp(value - total));
  }

  /* Score of two points, and its derivatives by both. */
  const geometries = {
    dot: (a, b) => ({ score: dot(a, b), a: b, b: a }),
    squared_euclidean: (a, b) => {
      const apart = minus(a, b);
      return { score: dot(apart, apart), a: times(2, apart), b: times(-2, apart) };
    },
    euclidean: (a, b) => {
      const apart = minus(a, b);
      const distance = norm(apart);
      const away = distance > 0 ? times(1 / distance, apart) : [0, 0]; // no direction where both are one
      return { score: distance, a: away, b: times(-1, away) };
    },
    cosine: (a, b) => {
      const [la, lb] = [norm(a), norm(b)];
      const [ua, ub] = [times(1 / la, a), times(1 / lb, b)];
      const score = dot(ua, ub);
      return { score, a: times(1 / la, minus(ub, times(score, ua))), b: times(1 / lb, minus(ua, times(score, ub))) };
    },
  };

  /* One triplet: [D_ap - D_an + m]_+, its kind, and the gradient of each point. */
  function triplet(anchor, positive, negative, margin, geometry = "euclidean") {
    const near = geometries[geometry](anchor, positive);
    const far = geometries[geometry](anchor, negative);
    const z = near.score + margin - far.score;
    const on = z > 0 ? 1 : 0;
    let kind = "hard";
    if (far.score > near.score) kind = z > 0 ? "semihard" : "easy";
    return {
      near: near.score,
      far: far.score,
      kind,
      value: on * z,
      gradients: [times(on, minus(near.a, far.a)), times(on, near.b), times(-on, far.b)],
    };
  }

  /* One pair at a Euclidean distance: loss and derivative by that distance. */
  function contrastive(distance, same, margin, convention = "sohn") {
    const isSquared = convention === "note"; // its D is the squared distance, which is not squared again
    const score = isSquared ? distance * distance : distance;
    const [power, factor] = isSquared ? [1, 1] : [2, convention === "hadsell" ? 0.5 : 1];
    const inner = isSquared ? 2 * distance : 1;
    const z = same ? score : Math.max(margin - score, 0);
    const steep = z > 0 || same ? factor * power * z ** (power - 1) : 0;
    return { value: factor * z ** power, gradient: (same ? 1 : -1) * steep * inner };
  }

  /* T(θ) = cos(m1 θ + m2) - m3, carried on beyond π by reflection, and -dT/dθ. */
  function targetScore(angle, m1, m2, m3) {
    const u = m1 * angle + m2;
    const k = Math.floor(u / Math.PI);
    const sign = k % 2 === 0 ? 1 : -1;
    return { score: sign * Math.cos(u) - 2 * k - m3, steep: m1 * sign * Math.sin(u) };
  }

  /* Cross-entropy of a point over class weights of length one, with a margin for its own class. */
  function marginLoss(point, weights, label, { m1 = 1, m2 = 0, m3 = 0, scale = 8 } = {}) {
    const found = weights.map((weight) => geometries.cosine(point, weight));
    const own = found[label];
    const length = norm(point) * norm(weights[label]);
    const sine = (point[0] * weights[label][1] - point[1] * weights[label][0]) / length;
    const target = targetScore(Math.atan2(Math.abs(sine), own.score), m1, m2, m3);
    const logits = found.map((one, j) => scale * (j === label ? target.score : one.score));
    const value = logSumExp(logits) - logits[label];
    const shares = softmax(logits);
    const forWeights = weights.map(() => [0, 0]);
    const forPoint = [0, 0];
    found.forEach((one, j) => {
      // dT/dcos = (-dT/dθ) / sin θ; where the sine is 0 the gradient of the cosine is 0 as well
      const inner = j === label ? target.steep / Math.max(Math.abs(sine), 1e-12) : 1;
      const g = scale * inner * (shares[j] - (j === label ? 1 : 0));
      for (const axis of [0, 1]) {
        forPoint[axis] += g * one.a[axis];
        forWeights[j][axis] += g * one.b[axis];
      }
    });
    return { value, point: forPoint, weights: forWeights };
  }

  /* θ2 from which on class 1 wins with its margin: cos θ2 = T(θ1); null where it never does. */
  function boundary(angle, m1, m2, m3) {
    const { score } = targetScore(angle, m1, m2, m3);
    return Math.abs(score) <= 1 ? Math.acos(score) : null;
  }

  /* Cross-entropy of the candidate `at` among all. */
  const infoNCE = (scores, at) => logSumExp(scores) - scores[at];

  /* Loss of one target against k noise words, given their scores and log probabilities. */
  function nce(target, noise, logProbability, samples) {
    const delta = ({ score, word }) => score - Math.log(samples) - logProbability[word];
    return softplus(-delta(target)) + sum(noise.map((one) => softplus(delta(one))));
  }

  /* Derivative of the expected loss by the score of each word: what sampling gives on average. */
  function expectedNCE(scores, data, noise, samples) {
    return scores.map((score, word) => {
      const delta = score - Math.log(samples * noise[word]);
      return samples * noise[word] * sigmoid(delta) - data[word] * sigmoid(-delta);
    });
  }

  /* The same of cross-entropy over all words. */
  const expectedSoftmax = (scores, data) => softmax(scores).map((share, word) => share - data[word]);

  /* The same numbers on each visit of a page. */
  function random(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return { uniform, normal };
  }

  /* Scores under the best critic, the log of the density ratio, of `rows` pairs of correlated Gaussians that share
     `information` nats; row i's positive is column i. */
  function criticScores(information, size, rows, dims, seed) {
    const squaredRho = 1 - Math.exp((-2 * information) / dims);
    const [rho, spread] = [Math.sqrt(squaredRho), 1 - squaredRho];
    const { normal } = random(seed);
    const draw = (count) => Float64Array.from({ length: count * dims }, normal);
    const [c, x] = [draw(rows), draw(size)];
    for (let i = 0; i < rows * dims; i += 1) x[i] = rho * c[i] + Math.sqrt(spread) * x[i];
    const lengths = Array.from({ length: size }, (_, j) => {
      let total = 0;
      for (let d = 0; d < dims; d += 1) total += x[j * dims + d] ** 2;
      return total;
    });
    return Array.from({ length: rows }, (_, i) =>
      Array.from({ length: size }, (_unused, j) => {
        let product = 0;
        for (let d = 0; d < dims; d += 1) product += c[i * dims + d] * x[j * dims + d];
        return (2 * rho * product - squaredRho * lengths[j]) / (2 * spread);
      }),
    );
  }

  /* log N - L of the best critic. */
  function estimate(information, size, { rows = 256, dims = 20, seed = 0 } = {}) {
    let total = 0;
    const shown = Math.min(rows, size);
    const batches = Math.ceil(rows / shown);
    for (let batch = 0; batch < batches; batch += 1) {
      const scores = criticScores(information, size, shown, dims, seed + batch);
      total += sum(scores.map(infoNCE)) / shown;
    }
    return Math.log(size) - total / batches;
  }

  /* An anchor against all its negatives at once, or one by one: how much each is pushed, and the gradient of each point. */
  function nPair(anchor, positive, negatives, oneVsOne = false) {
    const gaps = negatives.map((negative) => dot(anchor, negative) - dot(anchor, positive));
    const pushes = oneVsOne ? gaps.map(sigmoid) : softmax([0, ...gaps]).slice(1);
    const pushed = sum(pushes);
    const mixed = [0, 1].map((axis) => sum(negatives.map((negative, j) => pushes[j] * negative[axis])));
    return {
      value: oneVsOne ? sum(gaps.map(softplus)) : logSumExp([0, ...gaps]),
      pushes,
      anchor: minus(mixed, times(pushed, positive)),
      positive: times(-pushed, anchor),
      negatives: pushes.map((push) => times(push, anchor)),
    };
  }

  /* Distances of one anchor to others, and how far their labels are from its own: value and derivative by each distance.
     Labels equal to the anchor's are left out; D is the squared distance. */
  function logRatio(distances, targets, eps = 1e-6) {
    const shown = targets.flatMap((target, j) => (target === 0 ? [] : [j]));
    const n = shown.length;
    const ratios = shown.map((j) => Math.log(distances[j] ** 2 + eps) - Math.log(targets[j] ** 2 + eps));
    const mean = sum(ratios) / n;
    const gradient = targets.map(() => 0);
    shown.forEach((j, place) => {
      gradient[j] = (8 * (ratios[place] - mean) * distances[j]) / ((n - 1) * (distances[j] ** 2 + eps));
    });
    return { value: (2 * sum(ratios.map((ratio) => (ratio - mean) ** 2))) / (n - 1), gradient, factor: Math.exp(mean / 2) };
  }

  /* Semi-hard triplets of one anchor with squared distances; positives share its bin. */
  function binned(distances, isPositive, margin) {
    const gradient = distances.map(() => 0);
    let [total, count] = [0, 0];
    distances.forEach((near, p) =>
      distances.forEach((far, n) => {
        const z = near ** 2 + margin - far ** 2;
        if (!isPositive[p] || isPositive[n] || z <= 0 || far <= near) return;
        total += z;
        count += 1;
        gradient[p] += 2 * near;
        gradient[n] -= 2 * far;
      }),
    );
    return { value: total / Math.max(count, 1), gradient: gradient.map((g) => g / Math.max(count, 1)) };
  }

  /* An embedding against the rows of a bank of length one, of which one is its own, with the proximal term. */
  function instance(embedding, bank, own, temperature, proximal = 0) {
    const found = bank.map((row) => geometries.cosine(embedding, row));
    const logits = found.map((one) => one.score / temperature);
    const shares = softmax(logits);
    const weights = shares.map((share, j) => (share - (j === own ? 1 : 0)) / temperature - (j === own ? 2 * proximal : 0));
    return {
      value: logSumExp(logits) - logits[own] + 2 * proximal * (1 - found[own].score),
      shares,
      gradient: [0, 1].map((axis) => sum(found.map((one, j) => weights[j] * one.a[axis]))),
    };
  }

  /* A row of the bank when its example has been in a batch. */
  const bankRow = (row, embedding, momentum) =>
    unit([0, 1].map((axis) => momentum * row[axis] + (1 - momentum) * unit(embedding)[axis]));

  /* What a ranking is worth to a query, from which of its ranks are relevant. */
  function measures(hits, top) {
    const relevant = hits.filter(Boolean).length;
    let seen = 0;
    const precisions = hits.map((hit, i) => { seen += hit ? 1 : 0; return seen / (i + 1); });
    const upTo = (last) => sum(precisions.filter((_, i) => hits[i] && i < last)) / relevant;
    return {
      precisions,
      recall: hits.slice(0, top).some(Boolean) ? 1 : 0,
      mapAtR: upTo(relevant),
      rPrecision: precisions[relevant - 1],
      map: upTo(hits.length),
      mrr: 1 / (hits.indexOf(true) + 1),
    };
  }

  /* The same where the first ranks share one score: the mean over all of their orders. */
  function expectedMeasures(hits, top, tied) {
    const orders = (count, length) => {
      if (length === 0) return [[]];
      return [
        ...(count > 0 ? orders(count - 1, length - 1).map((rest) => [true, ...rest]) : []),
        ...(count < length ? orders(count, length - 1).map((rest) => [false, ...rest]) : []),
      ];
    };
    const found = orders(hits.slice(0, tied).filter(Boolean).length, tied)
      .map((order) => measures([...order, ...hits.slice(tied)], top));
    const mean = (part) => sum(found.map(part)) / found.length;
    const { precisions, ...numbers } = found[0];
    return {
      precisions: precisions.map((_, i) => mean((one) => one.precisions[i])),
      ...Object.fromEntries(Object.keys(numbers).map((name) => [name, mean((one) => one[name])])),
    };
  }

  return {
    bankRow, binned, boundary, contrastive, criticScores, dot, estimate, expectedMeasures, expectedNCE, expectedSoftmax,
    geometries, infoNCE, instance, logRatio, logSumExp, marginLoss, minus, nPair, nce, norm, random, sigmoid, softmax,
    softplus, sum, targetScore, times, triplet, unit,
  };
})();
