"use strict";
// A small array library: matrices of float32 numbers, and the operations of a GPT by the names of autograd/ops.
// An operation returns a new array.  Sums are in double precision, which is JavaScript's number.

class Matrix {
  /** A matrix of shape (rows, columns), its numbers row after row; zeros unless given. */
  constructor(rows, columns, data = new Float32Array(rows * columns)) {
    Object.assign(this, { rows, columns, data });
  }
  row(i) {
    return this.data.subarray(i * this.columns, (i + 1) * this.columns);
  }
  /** Return rows from `start` up to `end`, which share the numbers. */
  slice(start, end = this.rows) {
    return new Matrix(end - start, this.columns, this.data.subarray(start * this.columns, end * this.columns));
  }
  /** Return f(x) of each number. */
  map(f) {
    return new Matrix(this.rows, this.columns, this.data.map((x) => f(x)));
  }
}

function add(x, y) {
  return new Matrix(x.rows, x.columns, x.data.map((v, i) => v + y.data[i]));
}

function multiply(x, y) {
  return new Matrix(x.rows, x.columns, x.data.map((v, i) => v * y.data[i]));
}

function transpose(x) {
  const y = new Matrix(x.columns, x.rows);
  for (let i = 0; i < x.rows; i++) {
    for (let j = 0; j < x.columns; j++) y.data[j * x.rows + i] = x.data[i * x.columns + j];
  }
  return y;
}

/** Split (T, a + b + …) into matrices (T, a), (T, b), … */
function split(x, widths) {
  let start = 0;
  return widths.map((width) => {
    const y = new Matrix(x.rows, width);
    for (let t = 0; t < x.rows; t++) y.row(t).set(x.row(t).subarray(start, start + width));
    start += width;
    return y;
  });
}

/** Put the rows of x (S, C) before those of y (T, C): (S + T, C). */
function stack(x, y) {
  const z = new Matrix(x.rows + y.rows, y.columns);
  z.data.set(x.data);
  z.data.set(y.data, x.data.length);
  return z;
}

/** Put matrices (T, a), (T, b), … side by side: (T, a + b + …). */
function concatenate(xs) {
  const y = new Matrix(xs[0].rows, xs.reduce((sum, x) => sum + x.columns, 0));
  for (let t = 0; t < y.rows; t++) xs.reduce((start, x) => (y.row(t).set(x.row(t), start), start + x.columns), 0);
  return y;
}

/** y = x w, (T, n) times (n, m).  Nearly all time is spent here: a tile of 4 rows and 2 columns of y at a time keeps
 *  its eight sums in registers, and the two columns of w lie side by side.  At an edge, a tile has its last row or
 *  column more than once. */
function matmul(x, w) {
  const n = w.rows, m = w.columns, last = x.rows - 1, y = new Matrix(x.rows, m);
  const a = new Float64Array(x.data), b = w.data, c = y.data, pair = new Float64Array(2 * n);
  for (let j0 = 0; j0 < m; j0 += 2) {
    const j1 = Math.min(j0 + 1, m - 1);
    for (let k = 0; k < n; k++) {
      pair[2 * k] = b[k * m + j0];
      pair[2 * k + 1] = b[k * m + j1];
    }
    for (let i0 = 0; i0 <= last; i0 += 4) {
      const i1 = Math.min(i0 + 1, last), i2 = Math.min(i0 + 2, last), i3 = Math.min(i0 + 3, last);
      let p0 = 0, p1 = 0, p2 = 0, p3 = 0, q0 = 0, q1 = 0, q2 = 0, q3 = 0;
      for (let k = 0; k < n; k++) {
        const u = pair[2 * k], v = pair[2 * k + 1];
        const a0 = a[i0 * n + k], a1 = a[i1 * n + k], a2 = a[i2 * n + k], a3 = a[i3 * n + k];
        p0 += a0 * u; p1 += a1 * u; p2 += a2 * u; p3 += a3 * u;
        q0 += a0 * v; q1 += a1 * v; q2 += a2 * v; q3 += a3 * v;
      }
      c[i0 * m + j0] = p0; c[i1 * m + j0] = p1; c[i2 * m + j0] = p2; c[i3 * m + j0] = p3;
      c[i0 * m + j1] = q0; c[i1 * m + j1] = q1; c[i2 * m + j1] = q2; c[i3 * m + j1] = q3;
    }
  }
  return y;
}

/** y = x W + b, weight W (n_in, n_out), bias b (n_out,) or null. */
function linear(x, { weight, bias }) {
  const y = matmul(x, weight);
  if (bias) y.data.forEach((v, i) => { y.data[i] = v + bias.data[i % y.columns]; });
  return y;
}

/** The row of the table (n, C) for each integer: (T, C). */
function embedding(ids, table) {
  const y = new Matrix(ids.length, table.columns);
  ids.forEach((id, t) => y.row(t).set(table.row(id)));
  return y;
}

/** y = x̂ ⊙ weight + bias along each row, x̂ = (x − mean x) / √(var x + eps); weight and bias (C,) or null. */
function layer_norm(x, weight, bias, eps) {
  return normalize(x, weight, bias, eps, (row) => row.reduce((sum, v) => sum + v, 0) / row.length);
}

/** y = x / √(mean x² + eps) ⊙ weight along each row; weight (C,) or null. */
function rms_norm(x, weight, eps) {
  return normalize(x, weight, null, eps, () => 0);
}

function normalize(x, weight, bias, eps, center) {
  const y = new Matrix(x.rows, x.columns);
  for (let t = 0; t < x.rows; t++) {
    const row = x.row(t), mean = center(row), n = row.length;
    const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / n + eps);
    row.forEach((v, c) => {
      y.data[t * n + c] = (v - mean) * scale * (weight ? weight.data[c] : 1) + (bias ? bias.data[c] : 0);
    });
  }
  return y;
}

/** exp(x) / Σ exp(x) of the numbers of a row. */
function softmax(row) {
  const most = row.reduce((a, b) => Math.max(a, b), -Infinity), e = row.map((x) => Math.exp(x - most));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / sum);
}

/** yₜ = Σₖ weightₖ ⊙ xₜ₋ₖ, where x before the start is 0: x (T, C), weight (K, C). */
function causal_conv(x, weight) {
  const C = x.columns, y = new Matrix(x.rows, C);
  for (let t = 0; t < x.rows; t++) {
    for (let k = 0; k < weight.rows && k <= t; k++) {
      for (let c = 0; c < C; c++) y.data[t * C + c] += weight.data[k * C + c] * x.data[(t - k) * C + c];
    }
  }
  return y;
}

/** Turn the pairs (xᵢ, xᵢ₊ₕ) of the row of position t by the angle t · frequencyᵢ: x (T, 2h) from position `start` on,
 *  frequencies (h,) in radians a token. */
function rotary(x, frequencies, start) {
  const h = frequencies.length, y = new Matrix(x.rows, 2 * h);
  for (let t = 0; t < x.rows; t++) {
    const row = x.row(t), turned = y.row(t);
    for (let i = 0; i < h; i++) {
      const angle = (start + t) * frequencies[i], cos = Math.cos(angle), sin = Math.sin(angle);
      turned[i] = row[i] * cos - row[i + h] * sin;
      turned[i + h] = row[i + h] * cos + row[i] * sin;
    }
  }
  return y;
}

/** p = softmax(q kᵀ / √d): q (T, d), k (S, d) -> (T, S).  The last query sees all keys, each before it one fewer. */
function attention_weights(q, k) {
  const scores = matmul(q, transpose(k)), p = new Matrix(q.rows, k.rows), scale = 1 / Math.sqrt(q.columns);
  for (let t = 0; t < q.rows; t++) {
    const seen = k.rows - q.rows + t + 1;
    p.row(t).set(softmax(scores.row(t).subarray(0, seen).map((x) => x * scale)));
  }
  return p;
}

/** (2/√π) ∫₀ˣ exp(−t²) dt, to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const ACTIVATIONS = {
  gelu: (x) => x * (1 + erf(x / Math.SQRT2)) / 2,
  gelu_tanh: (x) => x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) / 2,
  relu: (x) => Math.max(x, 0),
  squared_relu: (x) => Math.max(x, 0) ** 2,
  silu: (x) => x / (1 + Math.exp(-x)),
};
