// What the page knows of the exposures, and how decisions are saved: by the server at once, or,
// where the page is a file, in the browser until they are saved as review.json.
"use strict";

(function (review) {
  const waiting = new Map();
  let loads = 0, saves = 0;

  // Data come as scripts, which a page may load from a server and from a file alike.
  review.deliver = function (name, record) {
    const found = (waiting.get(name) || []).shift();
    if (found) found(record);
  };

  review.load = function (name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js?${++loads}`;
      const take = (record) => (record.error ? reject(new Error(record.error)) : resolve(record));
      waiting.set(name, [...(waiting.get(name) || []), take]);
      script.onerror = () => {
        waiting.set(name, waiting.get(name).filter((one) => one !== take));
        reject(new Error(`data/${name}.js cannot be loaded: does the server still run?`));
      };
      script.onload = () => script.remove();
      document.head.append(script);
    });
  };

  const state = {
    summary: null,
    exposures: [],
    images: new Map(),
  };
  review.state = state;

  const KEPT = 8;

  // Read everything; what was read before something was saved is not taken any more.
  review.loadSummary = async function () {
    const before = saves, summary = await review.load("summary");
    if (saves !== before) return false;
    state.summary = summary;
    state.exposures = summary.exposures;
    if (summary.mode === "static") restoreLocal();
    return true;
  };

  // Images of an exposure, decoded; kept for the last few.
  review.loadImages = async function (index) {
    const exposure = state.exposures[index];
    const id = `${exposure.key} ${JSON.stringify(exposure.masked)}`;
    if (state.images.has(id)) return state.images.get(id);
    const record = await review.load(`exposure-${index}`);
    const images = {
      ...record,
      exposure: review.halfFloats(record.exposure),
      reference: review.halfFloats(record.reference),
      used: review.bits(record.used, record.nx * record.ny),
    };
    while (state.images.size >= KEPT) state.images.delete(state.images.keys().next().value);
    state.images.set(id, images);
    return images;
  };

  // An error that says that the row changed meanwhile.
  review.Outdated = class extends Error {};

  async function post(name, record) {
    let answer;
    saves++;
    try {
      answer = await fetch(name, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(record),
      });
    } catch {
      throw new Error("not saved: the server does not answer; start musedask review again");
    }
    const result = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
    if (answer.status === 409) throw new review.Outdated(result.error);
    if (!answer.ok) throw new Error(`not saved: ${result.error}`);
    saves++;
    return result;
  }

  review.isStatic = () => state.summary.mode === "static";

  // Save a decision; the exposure is then as the table has it.
  review.decide = async function (index, decision) {
    const exposure = state.exposures[index];
    const whole = { date_obs: exposure.key, based_on: exposure.version, ...decision };
    if (review.isStatic()) {
      decideLocally(exposure, whole);
    } else {
      state.exposures[index] = await post("decide", { index, decision: whole });
    }
  };

  review.undoSaved = async function (index) {
    const exposure = state.exposures[index];
    if (review.isStatic()) {
      if (!exposure.local.length) throw new Error("there is nothing to undo");
      exposure.local.pop();
      showLocal(exposure);
      keepLocal();
    } else {
      state.exposures[index] = await post("undo", { index, based_on: exposure.version });
    }
  };

  // --- without a server ----------------------------------------------------------------------

  const place = () => `musedask review ${state.summary.folder}/${state.summary.table}`;
  let unsaved = false;

  function decideLocally(exposure, decision) {
    if (decision.action === "accepted") {
      if (!review.known(exposure.row.ra_offset_arcsec) || exposure.row.grade === "F") {
        throw new Error("there is no good offset to accept: move the exposure by hand, or flag it");
      }
      decision.masked = exposure.masked;
    }
    decision.decided_at = new Date().toISOString().slice(0, 19);
    exposure.local.push(decision);
    showLocal(exposure);
    keepLocal();
  }

  // What the row will be once the decisions are applied; a fit without what is masked is only
  // estimated here.
  function showLocal(exposure) {
    Object.assign(exposure, structuredClone(exposure.original));
    for (const decision of exposure.local) {
      const row = exposure.row;
      if (decision.action === "reset") showMeasured(exposure);
      else if (decision.action === "masked") showMasked(exposure, decision.masked);
      else {
        row.decision = decision.action;
        row.decided_at = decision.decided_at;
        if (decision.action === "moved") {
          Object.assign(row, { ra_offset_arcsec: decision.ra_offset_arcsec,
            dec_offset_arcsec: decision.dec_offset_arcsec, ra_error_arcsec: null,
            dec_error_arcsec: null, grade: "", method: "manual" });
        } else if (decision.action === "flagged") {
          Object.assign(row, { ra_offset_arcsec: null, dec_offset_arcsec: null,
            ra_error_arcsec: null, dec_error_arcsec: null, grade: "F", note: decision.reason });
        }
      }
    }
    exposure.history = exposure.history.concat(exposure.local.map((one) => (
      { action: one.action, who: "here", when: one.decided_at })));
  }

  function showMeasured(exposure) {
    const m = exposure.measured;
    Object.assign(exposure, { masked: [], provisional: false });
    Object.assign(exposure.row, { ra_offset_arcsec: m.ra_offset_arcsec, dec_offset_arcsec: m.dec_offset_arcsec,
      ra_error_arcsec: m.ra_error_arcsec, dec_error_arcsec: m.dec_error_arcsec, grade: m.grade,
      method: m.method, note: "", decision: "", decided_by: "", decided_at: "" });
  }

  function showMasked(exposure, masked) {
    exposure.masked = masked;
    const found = review.provisional(exposure.measured.sources, masked);
    exposure.provisional = true;
    Object.assign(exposure.row, {
      ra_offset_arcsec: found ? found.offset[0] : null,
      dec_offset_arcsec: found ? found.offset[1] : null,
      ra_error_arcsec: found ? found.error[0] : null,
      dec_error_arcsec: found ? found.error[1] : null,
      grade: found ? exposure.original.row.grade : "F", method: exposure.original.row.method, decision: "",
    });
  }

  function restoreLocal() {
    let kept = {};
    try { kept = JSON.parse(localStorage.getItem(place()) || "{}"); } catch { /* begin anew */ }
    for (const exposure of state.exposures) {
      const { row, masked, measured, history } = exposure;
      exposure.original = structuredClone({ row, masked, measured, history, provisional: false });
      const found = kept[exposure.key];
      exposure.local = found && found.version === exposure.version ? found.decisions : [];
      showLocal(exposure);
    }
  }

  function keepLocal() {
    unsaved = true;
    const kept = {};
    for (const one of state.exposures) {
      if (one.local.length) kept[one.key] = { version: one.version, decisions: one.local };
    }
    try { localStorage.setItem(place(), JSON.stringify(kept)); } catch { /* only the file is left */ }
  }

  // The last word on each exposure that was decided on.
  review.localDecisions = function () {
    const decisions = [];
    for (const exposure of state.exposures) {
      const last = exposure.local[exposure.local.length - 1];
      if (!last) continue;
      const { date_obs, action, based_on, ra_offset_arcsec, dec_offset_arcsec, correlation, reason, decided_at } = last;
      const record = { date_obs, action, based_on, decided_at, masked: exposure.masked };
      if (action === "moved") Object.assign(record, { ra_offset_arcsec, dec_offset_arcsec, correlation });
      if (reason) record.reason = reason;
      decisions.push(record);
    }
    return decisions;
  };

  review.saveFile = function () {
    const decisions = review.localDecisions();
    if (!decisions.length) throw new Error("nothing was decided yet");
    const record = { format: state.summary.format, version: state.summary.version, decisions };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }));
    link.download = "review.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = false;
    return decisions.length;
  };

  window.addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });
})(window.review);
