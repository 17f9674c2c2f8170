// The large picture: exposure and reference on one grid, blinked, swiped or subtracted.
"use strict";

(function (review) {
  const canvas = document.getElementById("picture");
  const EXPOSURE = "#ffb454", REFERENCE = "#6cc4ff", TEXT = "#e6e8ea", MASK = "#ff8fd0";
  const ARROW_KEYS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
  const ARROW_PIX = 28;

  const field = {
    images: null, exposure: null, offset: [0, 0], rotation: 0,
    mode: "blink", showsReference: false, contours: false, arrows: true,
    divider: 0.5, zoom: 1, middle: [0, 0], brightness: 0, faint: 0, lit: -1,
  };
  review.field = field;
  let pictures = null, fitted = "";

  // Show an exposure; `images` may be null, where there are none.
  field.show = function (exposure, images) {
    field.exposure = exposure;
    if (images !== field.images) {
      field.images = images;
      pictures = null;
    }
    if (images && fitted !== exposure.key) field.fit();
    if (images) fitted = exposure.key;
    field.draw();
  };

  field.fit = function () {
    if (!field.images) return;
    const { nx, ny } = field.images, box = canvas.getBoundingClientRect();
    field.zoom = 0.94 * Math.min(box.width / nx, box.height / ny);
    field.middle = review.place(field.placement(), (nx - 1) / 2, (ny - 1) / 2);
  };

  field.placement = () => review.placement(field.images, field.offset, field.rotation);

  // Lattice pixels <-> the canvas, in CSS pixels.
  field.toScreen = (x, y) => [
    (x - field.middle[0]) * field.zoom + canvas.clientWidth / 2,
    canvas.clientHeight / 2 - (y - field.middle[1]) * field.zoom,
  ];
  field.toLattice = (sx, sy) => [
    (sx - canvas.clientWidth / 2) / field.zoom + field.middle[0],
    (canvas.clientHeight / 2 - sy) / field.zoom + field.middle[1],
  ];

  // RA and DEC (degrees) of a place on the lattice, as the reference has them.
  field.toSky = function (x, y) {
    const { matrix, centre, nx, ny } = field.images;
    const [east, north] = review.times(matrix, [x - (nx - 1) / 2, y - (ny - 1) / 2]);
    const dec = centre[1] + north / 3600;
    return [(centre[0] + east / 3600 / Math.cos((centre[1] * Math.PI) / 180) + 360) % 360, dec];
  };
  field.fromSky = function (ra, dec) {
    const { matrix, centre, nx, ny } = field.images;
    const east = ((ra - centre[0] + 540) % 360 - 180) * 3600 * Math.cos((centre[1] * Math.PI) / 180);
    const [x, y] = review.times(review.inverse(matrix), [east, (dec - centre[1]) * 3600]);
    return [x + (nx - 1) / 2, y + (ny - 1) / 2];
  };

  // --- pictures of the images ------------------------------------------------------------------

  function painted(nx, ny, colour) {
    const picture = document.createElement("canvas");
    picture.width = nx;
    picture.height = ny;
    const context = picture.getContext("2d"), data = context.createImageData(nx, ny);
    for (let y = 0, i = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++, i++) colour(i, data.data, 4 * ((ny - 1 - y) * nx + x));
    }
    context.putImageData(data, 0, 0);
    return picture;
  }
  review.painted = painted;

  review.grey = function (values, stretch, used) {
    return (i, out, at) => {
      const value = values[i];
      if (!(value === value)) return;
      const level = 255 * stretch(value) * (used && !used[i] ? 0.45 : 1);
      out[at] = out[at + 1] = out[at + 2] = level;
      out[at + 3] = 255;
    };
  };

  // Too bright is orange, too faint is blue, nothing is black: also for the colour-blind.
  review.diverging = function (difference, softening, most) {
    const top = Math.asinh(most / softening);
    return (i, out, at) => {
      const value = difference(i);
      if (!(value === value)) return;
      const level = Math.min(1, Math.asinh(Math.abs(value) / softening) / top);
      const [r, g, b] = value > 0 ? [255, 170, 70] : [70, 165, 255];
      out[at] = r * level; out[at + 1] = g * level; out[at + 2] = b * level;
      out[at + 3] = 255;
    };
  };

  function stretchNow() {
    const [faintest, brightest] = field.images.levels;
    const top = faintest + (brightest - faintest) * 10 ** -field.brightness;
    return review.stretch(faintest, top, 3 * 10 ** -field.faint);
  }

  field.repaint = function () {
    pictures = null;
    field.draw();
  };

  function makePictures() {
    const { nx, ny, margin, exposure, reference, used } = field.images, stretch = stretchNow();
    pictures = {
      exposure: painted(nx, ny, review.grey(exposure, stretch, used)),
      reference: painted(nx + 2 * margin, ny + 2 * margin, review.grey(reference, stretch)),
      contours: contourPath(),
    };
  }

  function differencePicture() {
    const { nx, ny, exposure, used } = field.images;
    const below = review.underneath(field.images, field.placement());
    const most = Math.max(4, 0.3 * field.images.levels[1]) * 10 ** -field.brightness;
    return painted(nx, ny, review.diverging(
      (i) => (used[i] ? exposure[i] - below[i] : NaN), 2 * 10 ** -field.faint, most));
  }

  // Contours of the reference as one path in lattice pixels (marching squares).
  function contourPath() {
    const { nx, ny, margin, reference } = field.images;
    const wide = nx + 2 * margin, high = ny + 2 * margin, path = new Path2D();
    for (let level = 5, n = 0; n < 5; level *= 4, n++) traced(reference, wide, high, level, margin, path);
    return path;
  }

  function traced(values, wide, high, level, margin, path) {
    for (let y = 0; y + 1 < high; y++) {
      for (let x = 0; x + 1 < wide; x++) {
        const j = y * wide + x;
        const a = values[j] - level, b = values[j + 1] - level;
        const c = values[j + wide + 1] - level, d = values[j + wide] - level;
        if (!(a === a && b === b && c === c && d === d)) continue;
        const crossings = [];
        if (a > 0 !== b > 0) crossings.push([x + a / (a - b), y]);
        if (b > 0 !== c > 0) crossings.push([x + 1, y + b / (b - c)]);
        if (c > 0 !== d > 0) crossings.push([x + d / (d - c), y + 1]);
        if (d > 0 !== a > 0) crossings.push([x, y + a / (a - d)]);
        for (let k = 0; k + 1 < crossings.length; k += 2) {
          path.moveTo(crossings[k][0] - margin, crossings[k][1] - margin);
          path.lineTo(crossings[k + 1][0] - margin, crossings[k + 1][1] - margin);
        }
      }
    }
  }

  // --- drawing ---------------------------------------------------------------------------------

  // Draw a picture whose pixel p lies at where(p) on the lattice.
  function drawPicture(context, ratio, picture, where) {
    const ny = picture.height;
    const at = (u, v) => field.toScreen(...where(u - 0.5, ny - v - 0.5));
    const o = at(0, 0), right = at(1, 0), down = at(0, 1);
    context.setTransform(
      ratio * (right[0] - o[0]), ratio * (right[1] - o[1]),
      ratio * (down[0] - o[0]), ratio * (down[1] - o[1]), ratio * o[0], ratio * o[1]);
    context.imageSmoothingEnabled = true;
    context.drawImage(picture, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  field.draw = function () {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!field.images) return;
    if (!pictures) makePictures();
    const placement = field.placement(), margin = field.images.margin;
    const onLattice = (x, y) => review.place(placement, x, y);
    const inReference = (x, y) => [x - margin, y - margin];
    const drawExposure = () => drawPicture(context, ratio, pictures.exposure, onLattice);
    const drawReference = () => drawPicture(context, ratio, pictures.reference, inReference);
    if (field.mode === "difference") {
      drawPicture(context, ratio, differencePicture(), onLattice);
    } else if (field.mode === "swipe") {
      clipped(context, 0, field.divider * width, height, drawExposure);
      clipped(context, field.divider * width, width, height, drawReference);
      line(context, TEXT, 1, [[field.divider * width, 0], [field.divider * width, height]]);
    } else if (field.showsReference) drawReference();
    else drawExposure();
    if (field.contours) drawContours(context, ratio);
    drawOutline(context, placement);
    drawMasks(context);
    if (field.arrows) drawArrows(context, height);
    drawLabels(context, width, height);
  };

  function clipped(context, from, to, height, draw) {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    draw();
    context.restore();
  }

  function drawContours(context, ratio) {
    const o = field.toScreen(0, 0);
    context.save();
    context.setTransform(ratio * field.zoom, 0, 0, -ratio * field.zoom, ratio * o[0], ratio * o[1]);
    context.lineWidth = 1.2 / field.zoom;
    context.strokeStyle = REFERENCE;
    context.stroke(pictures.contours);
    context.restore();
  }

  function line(context, colour, width, points, closed) {
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (closed) context.closePath();
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
  review.line = line;

  review.arrow = function (context, colour, width, from, to) {
    const dx = to[0] - from[0], dy = to[1] - from[1], length = Math.hypot(dx, dy);
    if (length < 1) return;
    const head = Math.min(6, length), ux = dx / length, uy = dy / length;
    line(context, colour, width, [from, to]);
    line(context, colour, width, [
      [to[0] - head * ux + 0.5 * head * uy, to[1] - head * uy - 0.5 * head * ux], to,
      [to[0] - head * ux - 0.5 * head * uy, to[1] - head * uy + 0.5 * head * ux]]);
  };

  function drawOutline(context, placement) {
    const { nx, ny } = field.images;
    const corners = [[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]];
    context.globalAlpha = 0.5;
    line(context, EXPOSURE, 1, corners.map(([x, y]) => field.toScreen(...review.place(placement, x, y))), true);
    context.globalAlpha = 1;
  }

  function circle(context, colour, width, at, radius, dashes) {
    context.beginPath();
    context.setLineDash(dashes || []);
    context.arc(at[0], at[1], radius, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
    context.setLineDash([]);
  }

  const pixel = () => Math.sqrt(Math.abs(
    field.images.matrix[0][0] * field.images.matrix[1][1] - field.images.matrix[0][1] * field.images.matrix[1][0]));
  field.pixel = pixel;

  function drawMasks(context) {
    for (const mask of field.exposure.masked) {
      const at = field.toScreen(...field.fromSky(mask.ra_deg, mask.dec_deg));
      circle(context, MASK, 2, at, (mask.radius_arcsec / pixel()) * field.zoom, [5, 3]);
    }
  }

  const sources = () => (field.exposure.measured ? field.exposure.measured.sources : []);

  function residual(source) {
    return [source.ra_offset_arcsec - field.offset[0], source.dec_offset_arcsec - field.offset[1]];
  }
  field.residual = residual;

  // The length that stands for ARROW_PIX: so that the longest that counts is not too long.
  function arrowKey() {
    const used = sources().filter((one) => one.used).map((one) => Math.hypot(...residual(one)));
    used.sort((a, b) => a - b);
    const typical = used.length ? used[Math.floor(0.8 * (used.length - 1))] : 0.1;
    return ARROW_KEYS.find((key) => key >= 0.7 * typical) || 5;
  }

  // Room for the slider of the swipe.
  const lifted = () => (field.mode === "swipe" ? 26 : 4);

  function drawArrows(context, height) {
    const key = arrowKey(), back = review.inverse(field.images.matrix);
    sources().forEach((source, i) => {
      const at = field.toScreen(source.x, source.y), [east, north] = residual(source);
      const [dx, dy] = review.times(back, [east, north]).map((v) => (v * pixel() * ARROW_PIX) / key);
      const colour = source.used ? EXPOSURE : "#b9bec5";
      const length = Math.hypot(dx, dy), shorter = Math.min(1, 120 / (length || 1));
      if (source.used) circle(context, colour, 1, at, 2);
      else circle(context, colour, 1, at, 5, [2, 2]);
      if (i === field.lit) circle(context, TEXT, 2, at, 11);
      const sigma = Math.hypot(source.ra_error_arcsec, source.dec_error_arcsec) / Math.SQRT2;
      context.globalAlpha = 0.35 + 0.65 * Math.min(1, Math.hypot(east, north) / (3 * sigma));
      review.arrow(context, colour, 1.6, at, [at[0] + dx * shorter, at[1] - dy * shorter]);
      context.globalAlpha = 1;
    });
    if (!sources().length) return;
    const y = height - lifted() - 12;
    review.arrow(context, EXPOSURE, 1.6, [12, y], [12 + ARROW_PIX, y]);
    text(context, `residual ${key}″`, 12 + ARROW_PIX + 7, y + 4);
  }

  function text(context, words, x, y, colour = TEXT, align = "left", size = 12) {
    context.font = `${size}px system-ui, sans-serif`;
    context.textAlign = align;
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0,0,0,0.8)";
    context.strokeText(words, x, y);
    context.fillStyle = colour;
    context.fillText(words, x, y);
  }
  review.text = text;

  function drawLabels(context, width, height) {
    const name = field.images.reference_name || "reference";
    if (field.mode === "difference") text(context, "exposure − reference", 10, 20, TEXT, "left", 14);
    else if (field.mode === "swipe") {
      text(context, "exposure", field.divider * width - 8, 20, EXPOSURE, "right", 14);
      text(context, name, field.divider * width + 8, 20, REFERENCE, "left", 14);
    } else if (field.showsReference) text(context, `reference: ${name}`, 10, 20, REFERENCE, "left", 14);
    else text(context, "exposure", 10, 20, EXPOSURE, "left", 14);
    drawCompass(context, width);
    const bar = [0.5, 1, 2, 5, 10, 20].filter((s) => (s / pixel()) * field.zoom < 0.25 * width).pop() || 0.5;
    const length = (bar / pixel()) * field.zoom;
    line(context, TEXT, 2, [[width - 12 - length, height - lifted() - 10], [width - 12, height - lifted() - 10]]);
    text(context, `${bar}″`, width - 12 - length / 2, height - lifted() - 16, TEXT, "center");
  }

  function drawCompass(context, width) {
    const back = review.inverse(field.images.matrix), middle = [width - 34, 40];
    for (const [name, direction] of [["N", [0, 1]], ["E", [1, 0]]]) {
      const [x, y] = review.times(back, direction), size = Math.hypot(x, y);
      const to = (r) => [middle[0] + (r * x) / size, middle[1] - (r * y) / size];
      review.arrow(context, TEXT, 1.3, middle, to(20));
      const [tx, ty] = to(28);
      text(context, name, tx, ty + 4, TEXT, "center", 11);
    }
  }

  // What lies under the pointer, in words.
  field.readout = function (sx, sy) {
    const [x, y] = field.toLattice(sx, sy), [ra, dec] = field.toSky(x, y), images = field.images;
    const wide = images.nx + 2 * images.margin, high = images.ny + 2 * images.margin;
    const u = Math.round(x) + images.margin, v = Math.round(y) + images.margin;
    const below = u >= 0 && v >= 0 && u < wide && v < high ? images.reference[v * wide + u] : NaN;
    const placement = field.placement();
    const px = Math.round(x - placement.shift[0]), py = Math.round(y - placement.shift[1]);
    const inside = px >= 0 && py >= 0 && px < images.nx && py < images.ny;
    const value = inside ? images.exposure[py * images.nx + px] : NaN;
    const shown = (one) => (review.known(one) ? `${one.toFixed(1)} σ` : "none");
    return `RA ${ra.toFixed(5)}°  Dec ${dec.toFixed(5)}°   exposure ${shown(value)}   reference ` +
      `${shown(below)}   (1 σ = ${images.unit.toPrecision(3)} ${images.units})`;
  };
})(window.review);
