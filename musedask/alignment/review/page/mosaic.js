// All exposures at once: their mean, the reference, the difference, footprints and offsets.
"use strict";

(function (review) {
  const NAMES = ["exposures", "reference", "difference"];
  const canvases = Object.fromEntries(NAMES.map((name) => [name, document.getElementById(`mosaic-${name}`)]));
  const VECTOR_KEYS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20];
  const VECTOR_PIX = 26;
  const mosaic = { data: null, overlay: true, selected: -1, offsetOf: () => null };
  review.mosaic = mosaic;
  let pictures = null;

  mosaic.load = async function () {
    const record = await review.load("mosaic");
    mosaic.data = { ...record, mosaic: review.halfFloats(record.mosaic), reference: review.halfFloats(record.reference) };
    pictures = null;
    mosaic.draw();
    return record;
  };

  function makePictures() {
    const { nx, ny, levels, mosaic: mean, reference } = mosaic.data;
    const stretch = review.stretch(levels[0], levels[1], 3);
    pictures = {
      exposures: review.painted(nx, ny, review.grey(mean, stretch)),
      reference: review.painted(nx, ny, review.grey(reference, stretch)),
      difference: review.painted(nx, ny, review.diverging((i) => mean[i] - reference[i], 2, Math.max(4, 0.3 * levels[1]))),
    };
  }

  function view(canvas) {
    const { nx, ny } = mosaic.data, scale = 0.96 * Math.min(canvas.clientWidth / nx, canvas.clientHeight / ny);
    const left = (canvas.clientWidth - scale * nx) / 2, top = (canvas.clientHeight - scale * ny) / 2;
    return { scale, left, top, at: (x, y) => [left + scale * (x + 0.5), top + scale * (ny - y - 0.5)] };
  }

  // A place on the sky, in pixels of the mosaic; small fields are flat.
  function pixelOf(ra, dec, moved) {
    const { centre, at, pixel } = mosaic.data;
    const cos = Math.cos((centre[1] * Math.PI) / 180);
    const east = ((ra - centre[0] + 540) % 360 - 180) * 3600 * cos - moved[0];
    const north = (dec - centre[1]) * 3600 - moved[1];
    return [at[0] - east / pixel, at[1] + north / pixel];
  }

  function footprint(exposure) {
    const offset = mosaic.offsetOf(exposure) || exposure.carried;
    const moved = [offset[0] - exposure.carried[0], offset[1] - exposure.carried[1]];
    return exposure.corners.map(([ra, dec]) => pixelOf(ra, dec, moved));
  }

  mosaic.draw = function () {
    const ratio = window.devicePixelRatio || 1;
    for (const name of NAMES) {
      const canvas = canvases[name];
      canvas.width = Math.round(canvas.clientWidth * ratio);
      canvas.height = Math.round(canvas.clientHeight * ratio);
      if (!mosaic.data) continue;
      if (!pictures) makePictures();
      const context = canvas.getContext("2d"), { scale, left, top } = view(canvas);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.drawImage(pictures[name], left, top, scale * mosaic.data.nx, scale * mosaic.data.ny);
      if (name === "exposures" && mosaic.overlay) drawOverlay(context, canvas);
    }
  };

  function drawOverlay(context, canvas) {
    const { at } = view(canvas), known = [];
    const shown = review.state.exposures.filter((one) => one.corners);
    for (const one of shown) {
      const offset = mosaic.offsetOf(one);
      if (offset) known.push(Math.hypot(...offset));
    }
    known.sort((a, b) => a - b);
    const largest = known.length ? known[Math.floor(0.9 * (known.length - 1))] : 1;
    const key = VECTOR_KEYS.find((one) => one >= 0.6 * largest) || 20;
    for (const one of shown) {
      const offset = mosaic.offsetOf(one), corners = footprint(one).map(([x, y]) => at(x, y));
      const chosen = one.index === mosaic.selected;
      const colour = chosen ? "#ffb454" : offset ? "#9fb6c9" : "#ef7b45";
      context.setLineDash(offset ? [] : [4, 3]);
      context.globalAlpha = chosen ? 1 : 0.55;
      review.line(context, colour, chosen ? 2 : 1, corners, true);
      context.setLineDash([]);
      if (offset) {
        const middle = [(corners[0][0] + corners[2][0]) / 2, (corners[0][1] + corners[2][1]) / 2];
        const to = [middle[0] - (offset[0] * VECTOR_PIX) / key, middle[1] - (offset[1] * VECTOR_PIX) / key];
        review.arrow(context, colour, chosen ? 2 : 1.3, middle, to);
      }
      context.globalAlpha = 1;
    }
    const y = canvas.clientHeight - 10;
    review.arrow(context, "#9fb6c9", 1.5, [8, y], [8 + VECTOR_PIX, y]);
    review.text(context, `offset ${key}″`, 8 + VECTOR_PIX + 6, y + 4, "#dfe1e4", "left", 11);
  }

  function inside(corners, [x, y]) {
    let result = false;
    for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
      const [a, b] = corners[i], [c, d] = corners[j];
      if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) result = !result;
    }
    return result;
  }

  // The exposures under a click, in turn: the one after that which is selected.
  mosaic.pick = function (name, sx, sy) {
    if (!mosaic.data) return -1;
    const { at } = view(canvases[name]);
    const found = review.state.exposures
      .filter((one) => one.corners && inside(footprint(one).map(([x, y]) => at(x, y)), [sx, sy]))
      .map((one) => one.index);
    if (!found.length) return -1;
    return found.find((index) => index > mosaic.selected) ?? found[0];
  };

  mosaic.canvases = canvases;
})(window.review);
