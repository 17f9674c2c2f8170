// Numbers of the page: what images are made of, where their pixels go, how well they agree.
"use strict";

window.review = window.review || {};

(function (review) {
  // Half-precision numbers, all 65536 of them.
  const HALVES = new Float32Array(65536);
  for (let i = 0; i < 65536; i++) {
    const sign = i & 0x8000 ? -1 : 1, exponent = (i >> 10) & 31, fraction = i & 1023;
    if (exponent === 31) HALVES[i] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) HALVES[i] = sign * fraction * 2 ** -24;
    else HALVES[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  function bytesOf(text) {
    const binary = atob(text), bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  review.halfFloats = function (text) {
    const bytes = bytesOf(text), values = new Float32Array(bytes.length / 2);
    for (let i = 0; i < values.length; i++) values[i] = HALVES[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
    return values;
  };

  review.bits = function (text, size) {
    const bytes = bytesOf(text), values = new Uint8Array(size);
    for (let i = 0; i < size; i++) values[i] = (bytes[i >> 3] >> (7 - (i & 7))) & 1;
    return values;
  };

  review.known = (value) => typeof value === "number" && Number.isFinite(value);

  // Matrices are [[a, b], [c, d]], vectors [x, y].
  review.times = (m, v) => [m[0][0] * v[0] + m[0][1] * v[1], m[1][0] * v[0] + m[1][1] * v[1]];

  review.inverse = function (m) {
    const det = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    return [[m[1][1] / det, -m[0][1] / det], [-m[1][0] / det, m[0][0] / det]];
  };

  const product = (a, b) => [
    [a[0][0] * b[0][0] + a[0][1] * b[1][0], a[0][0] * b[0][1] + a[0][1] * b[1][1]],
    [a[1][0] * b[0][0] + a[1][1] * b[1][0], a[1][0] * b[0][1] + a[1][1] * b[1][1]],
  ];

  // Where the pixels of an exposure lie on its own lattice once an offset (total, arcsec east
  // and north) and a rotation (degrees, north through east) are subtracted:
  // p -> centre + turn (p - centre) + shift.
  review.placement = function (images, offset, rotation) {
    const left = [offset[0] - images.carried[0], offset[1] - images.carried[1]];
    const back = review.inverse(images.matrix);
    const shift = review.times(back, [-left[0], -left[1]]);
    const angle = ((rotation || 0) * Math.PI) / 180;
    const cos = Math.cos(angle), sin = Math.sin(angle);
    const turn = angle
      ? product(back, product([[cos, -sin], [sin, cos]], images.matrix))
      : [[1, 0], [0, 1]];
    return { centre: [(images.nx - 1) / 2, (images.ny - 1) / 2], turn, shift };
  };

  review.place = function (placement, x, y) {
    const c = placement.centre, t = placement.turn, dx = x - c[0], dy = y - c[1];
    return [
      c[0] + t[0][0] * dx + t[0][1] * dy + placement.shift[0],
      c[1] + t[1][0] * dx + t[1][1] * dy + placement.shift[1],
    ];
  };

  // The offset after the exposure was moved on its lattice by (right, up) pixels. It was moved
  // from where it pointed to: what is subtracted grows against the movement.
  review.nudged = function (images, offset, right, up) {
    const moved = review.times(images.matrix, [right, up]);
    return [offset[0] - moved[0], offset[1] - moved[1]];
  };

  // The reference under each pixel of the exposure, bilinear; NaN where a neighbour is missing.
  review.underneath = function (images, placement, reference = images.reference) {
    const { nx, ny, margin } = images, wide = nx + 2 * margin, high = ny + 2 * margin;
    const result = new Float32Array(nx * ny);
    for (let y = 0, i = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++, i++) {
        const at = review.place(placement, x, y);
        const u = at[0] + margin, v = at[1] + margin;
        const left = Math.floor(u), low = Math.floor(v);
        if (left < 0 || low < 0 || left + 1 >= wide || low + 1 >= high) {
          result[i] = NaN;
          continue;
        }
        const fx = u - left, fy = v - low, j = low * wide + left;
        result[i] =
          (1 - fy) * ((1 - fx) * reference[j] + fx * reference[j + 1]) +
          fy * ((1 - fx) * reference[j + wide] + fx * reference[j + wide + 1]);
      }
    }
    return result;
  };

  // Pearson's coefficient of both images where they overlap, each cut at its own level: the
  // reference is interpolated, not the exposure, whose noise would change with the offset.
  review.correlation = function (images, placement) {
    const below = review.underneath(images, placement, images.compared || images.reference);
    const { exposure, used, tops } = images;
    let n = 0, a = 0, b = 0, aa = 0, bb = 0, ab = 0;
    for (let i = 0; i < exposure.length; i++) {
      if (!used[i] || !(below[i] === below[i])) continue;
      const one = Math.min(1, Math.max(-0.5, exposure[i] / tops[0]));
      const other = Math.min(1, Math.max(-0.5, below[i] / tops[1]));
      n++; a += one; b += other; aa += one * one; bb += other * other; ab += one * other;
    }
    const norm = (aa - (a * a) / n) * (bb - (b * b) / n);
    return n > 2 && norm > 0 ? (ab - (a * b) / n) / Math.sqrt(norm) : NaN;
  };

  // The reference without what is masked; circles are {x, y, radius} in pixels of the lattice.
  review.withoutCircles = function (images, circles) {
    const { nx, margin } = images, wide = nx + 2 * margin, result = images.reference.slice();
    for (const { x, y, radius } of circles) {
      const high = result.length / wide, u = x + margin, v = y + margin;
      for (let j = Math.max(0, Math.ceil(v - radius)); j <= Math.min(high - 1, v + radius); j++) {
        for (let i = Math.max(0, Math.ceil(u - radius)); i <= Math.min(wide - 1, u + radius); i++) {
          if (Math.hypot(i - u, j - v) <= radius) result[j * wide + i] = NaN;
        }
      }
    }
    return result;
  };

  // Weighted mean of the sources that count and are not masked; null if there are none.
  review.provisional = function (sources, masked) {
    let east = 0, north = 0, eastWeight = 0, northWeight = 0, n = 0;
    for (const one of sources) {
      if (!one.used || masked.some((circle) => review.distance(one, circle) < circle.radius_arcsec)) continue;
      const a = 1 / (one.ra_error_arcsec ** 2 || 1), b = 1 / (one.dec_error_arcsec ** 2 || 1);
      east += a * one.ra_offset_arcsec; north += b * one.dec_offset_arcsec;
      eastWeight += a; northWeight += b; n++;
    }
    return n ? { offset: [east / eastWeight, north / northWeight],
      error: [eastWeight ** -0.5, northWeight ** -0.5], n } : null;
  };

  // Arcseconds between two positions that are near each other.
  review.distance = function (one, other) {
    const cos = Math.cos((other.dec_deg * Math.PI) / 180);
    const east = ((one.ra_deg - other.ra_deg + 540) % 360 - 180) * cos;
    return 3600 * Math.hypot(east, one.dec_deg - other.dec_deg);
  };

  // 0 to 1: asinh above the faintest level, softened where the noise ends.
  review.stretch = function (faintest, brightest, softening) {
    const top = Math.asinh((brightest - faintest) / softening);
    return (value) => Math.min(1, Math.max(0, Math.asinh((value - faintest) / softening) / top));
  };
})(window.review);
