/* Losses of whole batches of points, by way of their score matrix, and the steps that move the points. */
"use strict";

tuplet.training = (() => {
  const { geometries, logSumExp, marginLoss, norm, softmax, sum, times } = tuplet.formulas;

  /* Value and gradient of a loss of the score matrix of a set with itself. `ofScores` returns the sum over the matrix,
     what it is divided by, and the derivative of the sum by every score. */
  function throughScores(points, geometry, ofScores) {
    const pairs = points.map((a) => points.map((b) => geometries[geometry](a, b)));
    const scores = pairs.map((row) => row.map((pair) => pair.score));
    const { total, count, grad } = ofScores(scores);
    const gradient = points.map(() => [0, 0]);
    points.forEach((_, i) =>
      points.forEach((_unused, j) => {
        if (i === j || grad[i][j] === 0) return;
        for (const axis of [0, 1]) {
          gradient[i][axis] += (grad[i][j] * pairs[i][j].a[axis]) / Math.max(count, 1);
          gradient[j][axis] += (grad[i][j] * pairs[i][j].b[axis]) / Math.max(count, 1);
        }
      }),
    );
    return { value: count > 0 ? total / count : 0, gradient };
  }

  const zeros = (scores) => scores.map((row) => row.map(() => 0));
  const others = (labels, i, same) =>
    labels.flatMap((label, j) => (j !== i && (label === labels[i]) === same ? [j] : []));

  /* [D_ap - D_an + m]_+ over the triplets that are selected, mean over those with a loss. */
  function triplets(select, margin) {
    const isChosen = {
      all: () => true,
      easy: (near, far) => near + margin < far,
      semihard: (near, far) => near < far && far < near + margin,
      hard: (near, far) => far <= near,
    }[select];
    return (labels) => (scores) => {
      const grad = zeros(scores);
      let [total, count] = [0, 0];
      labels.forEach((_, a) => {
        for (const p of others(labels, a, true)) {
          for (const n of others(labels, a, false)) {
            const z = scores[a][p] + margin - scores[a][n];
            if (z <= 0 || !isChosen(scores[a][p], scores[a][n])) continue;
            total += z;
            count += 1;
            grad[a][p] += 1;
            grad[a][n] -= 1;
          }
        }
      });
      return { total, count, grad };
    };
  }

  /* The farthest positive and the nearest negative of each anchor. */
  const batchHard = (margin) => (labels) => (scores) => {
    const grad = zeros(scores);
    let [total, count] = [0, 0];
    labels.forEach((_, a) => {
      const [near, far] = [others(labels, a, true), others(labels, a, false)];
      if (near.length === 0 || far.length === 0) return;
      const p = near.reduce((best, j) => (scores[a][j] > scores[a][best] ? j : best));
      const n = far.reduce((best, j) => (scores[a][j] < scores[a][best] ? j : best));
      const z = scores[a][p] + margin - scores[a][n];
      count += 1;
      if (z <= 0) return;
      total += z;
      grad[a][p] += 1;
      grad[a][n] -= 1;
    });
    return { total, count, grad };
  };

  /* Mean over unordered pairs; each is visited from both of its sides. */
  const pairHinge = (margin) => (labels) => (scores) => {
    const grad = zeros(scores);
    let [total, count] = [0, 0];
    labels.forEach((label, i) =>
      labels.forEach((other, j) => {
        if (i >= j) return;
        count += 1;
        const z = label === other ? scores[i][j] : Math.max(margin - scores[i][j], 0);
        total += z * z;
        grad[i][j] = (label === other ? 2 : -2) * z;
      }),
    );
    return { total, count, grad };
  };

  /* Cross-entropy of all positives of an anchor against everything else. */
  const supCon = (temperature) => (labels) => (scores) => {
    const grad = zeros(scores);
    let [total, count] = [0, 0];
    labels.forEach((_, a) => {
      const positives = others(labels, a, true);
      if (positives.length === 0) return;
      const everyone = [...positives, ...others(labels, a, false)];
      const logits = everyone.map((j) => scores[a][j] / temperature);
      total += logSumExp(logits) - sum(positives.map((p) => scores[a][p])) / temperature / positives.length;
      count += 1;
      const shares = softmax(logits);
      everyone.forEach((j, place) => {
        grad[a][j] = (shares[place] - (place < positives.length ? 1 / positives.length : 0)) / temperature;
      });
    });
    return { total, count, grad };
  };

  /* Each positive alone against all negatives of the anchor; mean over positives, then over anchors. */
  const nPair = () => (labels) => (scores) => {
    const grad = zeros(scores);
    let [total, count] = [0, 0];
    labels.forEach((_, a) => {
      const [positives, negatives] = [others(labels, a, true), others(labels, a, false)];
      if (positives.length === 0) return;
      count += 1;
      for (const p of positives) {
        const logits = [p, ...negatives].map((j) => scores[a][j]);
        total += (logSumExp(logits) - logits[0]) / positives.length;
        softmax(logits).forEach((share, place) => {
          const j = place === 0 ? p : negatives[place - 1];
          grad[a][j] += (share - (place === 0 ? 1 : 0)) / positives.length;
        });
      }
    });
    return { total, count, grad };
  };

  /* Distances follow label distances; over all pairs of an anchor's references at once. */
  const logRatio = (targets, eps = 1e-6) => (scores) => {
    const grad = zeros(scores);
    let [total, count] = [0, 0];
    targets.forEach((target, a) => {
      const shown = targets.flatMap((other, j) => (other === target ? [] : [j]));
      const n = shown.length;
      if (n < 2) return;
      const ratios = shown.map((j) => Math.log(scores[a][j] + eps) - Math.log((targets[j] - target) ** 2 + eps));
      const mean = sum(ratios) / n;
      total += n * sum(ratios.map((r) => (r - mean) ** 2));
      count += (n * (n - 1)) / 2;
      shown.forEach((j, place) => {
        grad[a][j] = (2 * n * (ratios[place] - mean)) / (scores[a][j] + eps);
      });
    });
    return { total, count, grad };
  };

  function heads(points, labels, weights, margins) {
    const gradient = points.map(() => [0, 0]);
    const forWeights = weights.map(() => [0, 0]);
    let value = 0;
    points.forEach((point, i) => {
      const found = marginLoss(point, weights, labels[i], margins);
      value += found.value / points.length;
      gradient[i] = times(1 / points.length, found.point);
      found.weights.forEach((g, j) => {
        forWeights[j] = [forWeights[j][0] + g[0] / points.length, forWeights[j][1] + g[1] / points.length];
      });
    });
    return { value, gradient, weights: forWeights };
  }

  /* What each loss of the figure computes of points, labels, class weights and its one option. */
  const LOSSES = {
    contrastive: (set, m) => throughScores(set.points, "euclidean", pairHinge(m)(set.labels)),
    triplet: (set, m) => throughScores(set.points, "squared_euclidean", triplets("all", m)(set.labels)),
    triplet_easy: (set, m) => throughScores(set.points, "squared_euclidean", triplets("easy", m)(set.labels)),
    triplet_semihard: (set, m) => throughScores(set.points, "squared_euclidean", triplets("semihard", m)(set.labels)),
    triplet_hard: (set, m) => throughScores(set.points, "squared_euclidean", triplets("hard", m)(set.labels)),
    triplet_batch_hard: (set, m) => throughScores(set.points, "squared_euclidean", batchHard(m)(set.labels)),
    npair: (set, penalty) => {
      const found = throughScores(set.points, "dot", nPair()(set.labels));
      const share = penalty / set.points.length;
      found.value += share * sum(set.points.map((point) => norm(point) ** 2));
      found.gradient = found.gradient.map((g, i) => g.map((one, axis) => one + 2 * share * set.points[i][axis]));
      return found;
    },
    supcon: (set, t) => throughScores(set.points, "cosine", supCon(t)(set.labels)),
    softmax: (set, scale) => heads(set.points, set.labels, set.weights, { scale }),
    cosface: (set, m) => heads(set.points, set.labels, set.weights, { m3: m }),
    arcface: (set, m) => heads(set.points, set.labels, set.weights, { m2: m }),
    log_ratio: (set, eps) => throughScores(set.points, "squared_euclidean", logRatio(set.targets, eps)),
  };

  /* Adam, for the points and, where the loss has them, the class weights. */
  function optimizer(rate) {
    const memory = new Map();
    let steps = 0;
    const move = (name, values, gradients) => {
      if (!memory.has(name)) memory.set(name, { m: values.map(() => [0, 0]), v: values.map(() => [0, 0]) });
      const { m, v } = memory.get(name);
      values.forEach((value, i) => {
        for (const axis of [0, 1]) {
          const g = gradients[i][axis];
          m[i][axis] = 0.9 * m[i][axis] + 0.1 * g;
          v[i][axis] = 0.999 * v[i][axis] + 0.001 * g * g;
          value[axis] -= (rate * (m[i][axis] / (1 - 0.9 ** steps))) / (Math.sqrt(v[i][axis] / (1 - 0.999 ** steps)) + 1e-8);
        }
      });
    };
    return (set, found) => {
      steps += 1;
      move("points", set.points, found.gradient);
      if (found.weights) move("weights", set.weights, found.weights);
    };
  }

  /* Share of points whose nearest other point is of their class. */
  function recallAtOne({ points, labels }, geometry) {
    const sign = geometry === "cosine" || geometry === "dot" ? -1 : 1;
    const hits = points.map((point, i) => {
      let [best, found] = [Infinity, -1];
      points.forEach((other, j) => {
        const distance = sign * geometries[geometry](point, other).score;
        if (i !== j && distance < best) [best, found] = [distance, j];
      });
      return labels[found] === labels[i] ? 1 : 0;
    });
    return sum(hits) / hits.length;
  }

  return { LOSSES, optimizer, recallAtOne };
})();
