// The page at work: which exposure is shown, keys and buttons, what is saved when.
"use strict";

(function (review) {
  const $ = (id) => document.getElementById(id);
  const { field, mosaic, state } = review;
  const drafts = new Map(); // key -> offset that was moved to and not accepted
  const done = []; // what can be undone, in the order in which it was done
  let current = 0, wantsMask = false, pointer = null, timer = 0, busy = false, loading = 0;

  const exposureNow = () => state.exposures[current];

  function say(words, kind = "") {
    $("message").textContent = words;
    $("message").className = kind;
  }

  // The offset that is shown: moved by hand, else the table's, else the automatic one, else none.
  function offsetOf(exposure) {
    const { row, measured } = exposure;
    if (drafts.has(exposure.key)) return drafts.get(exposure.key);
    for (const one of [row, measured]) {
      if (one && review.known(one.ra_offset_arcsec) && review.known(one.dec_offset_arcsec)) {
        return [one.ra_offset_arcsec, one.dec_offset_arcsec];
      }
    }
    return null;
  }
  mosaic.offsetOf = (exposure) => {
    const failed = exposure.row.grade === "F" && !drafts.has(exposure.key);
    return failed ? null : offsetOf(exposure);
  };

  const rotationOf = ({ row, measured }) => row.rotation_deg ?? (measured && measured.rotation_deg) ?? 0;

  // --- showing ---------------------------------------------------------------------------------

  function showList() {
    const items = state.exposures.map((one, i) => {
      const [kind, words] = review.stateWords(one, drafts.has(one.key));
      const button = review.element("button", { type: "button", onclick: () => go(i),
        "aria-current": i === current ? "true" : "false" },
      review.gradeBadge(one.measured ? one.measured.grade : one.row.grade),
      review.element("span", { class: "name" }, one.name || one.key),
      review.element("span", { class: `state ${kind}` }, words));
      return review.element("li", {}, button);
    });
    const scroll = $("exposures").scrollTop;
    $("list").replaceChildren(...items);
    $("exposures").scrollTop = scroll;
    if (items[current]) items[current].scrollIntoView({ block: "nearest" });
    const decided = state.exposures.filter((one) => one.row.decision).length;
    $("progress").textContent = `${decided} of ${state.exposures.length} decided`;
  }

  // Numbers and picture for the offset as it is now; quick, a key held down calls it often.
  function refresh() {
    const exposure = exposureNow(), offset = offsetOf(exposure), images = field.images;
    field.exposure = exposure;
    field.offset = offset || exposure.carried;
    field.rotation = rotationOf(exposure);
    mosaic.selected = current;
    const now = { offset: field.offset, isDraft: drafts.has(exposure.key) };
    if (images) {
      const at = (place, turned) => review.correlation(images, review.placement(images, place, turned));
      now.correlation = at(field.offset, field.rotation);
      now.header = remembered(images, "header", () => at(images.carried, 0));
      const auto = exposure.measured;
      if (review.known(auto.ra_offset_arcsec)) {
        now.automatic = at([auto.ra_offset_arcsec, auto.dec_offset_arcsec], auto.rotation_deg);
      }
      field.correlation = now.correlation;
    }
    review.showFacts(exposure, now, actions);
    field.draw();
    mosaic.draw();
  }

  function remembered(images, name, make) {
    images.numbers = images.numbers || {};
    if (!(name in images.numbers)) images.numbers[name] = make();
    return images.numbers[name];
  }

  async function go(index) {
    if (!state.exposures.length) return;
    current = Math.min(Math.max(index, 0), state.exposures.length - 1);
    const exposure = exposureNow();
    showList();
    note("");
    let images = null;
    if (field.exposure && field.exposure.key !== exposure.key) field.show(exposure, null);
    if (exposure.measured) {
      loading++;
      try {
        images = await review.loadImages(current);
      } catch (error) {
        note(error.message);
      } finally {
        loading--;
      }
    } else note("There are no images of this exposure: only its row can be decided on.");
    if (exposureNow().key !== exposure.key) return; // gone on meanwhile
    field.offset = offsetOf(exposure) || exposure.carried;
    field.rotation = rotationOf(exposure);
    field.show(exposure, images);
    if (images) {
      images.compared = review.withoutCircles(images, exposure.masked.map((one) => {
        const [x, y] = field.fromSky(one.ra_deg, one.dec_deg);
        return { x, y, radius: one.radius_arcsec / field.pixel() };
      }));
    }
    refresh();
    if (state.exposures[current + 1]?.measured) review.loadImages(current + 1).catch(() => {});
  }

  function note(words) {
    $("stage-note").textContent = words;
    $("stage-note").hidden = !words;
  }

  // --- decisions -------------------------------------------------------------------------------

  // Save something; while it is under way nothing else is.
  async function saving(index, work, words) {
    if (busy) return false;
    busy = true;
    document.body.setAttribute("aria-busy", "true");
    try {
      await work();
      say(words, "saved");
      return true;
    } catch (error) {
      if (error instanceof review.Outdated) await reload();
      say(error.message, "wrong");
      return false;
    } finally {
      busy = false;
      document.body.removeAttribute("aria-busy");
      showList();
      if (index === current) await go(index);
    }
  }

  async function decide(decision, words) {
    const index = current, key = exposureNow().key, draft = drafts.get(key);
    const isSaved = await saving(index, async () => {
      await review.decide(index, decision);
      dropDraft(key);
    }, words);
    if (isSaved) done.push({ kind: "saved", index, draft });
    return isSaved;
  }

  // Read everything again, after somebody else has written.
  async function reload() {
    const key = exposureNow().key;
    while (!(await review.loadSummary()));
    for (const one of drafts.keys()) if (!state.exposures.some((e) => e.key === one)) drafts.delete(one);
    current = Math.max(0, state.exposures.findIndex((one) => one.key === key));
    dropDraft(key);
    done.length = 0;
    await go(current);
  }

  async function accept() {
    const exposure = exposureNow(), draft = drafts.get(exposure.key);
    const decision = draft
      ? { action: "moved", ra_offset_arcsec: draft[0], dec_offset_arcsec: draft[1],
        correlation: review.known(field.correlation) ? field.correlation : null }
      : { action: "accepted" };
    const isSaved = await decide(decision, `${exposure.name}: ${draft ? "saved as moved by hand" : "accepted"}`);
    if (isSaved && $("go-on").checked) await go(current + 1);
  }

  function askToFlag() {
    $("reason").value = "";
    $("reason").setCustomValidity("");
    $("flag-dialog").showModal();
    $("reason").focus();
  }

  async function flag() {
    const reason = $("reason").value.trim();
    if (!reason) {
      $("reason").setCustomValidity("Say why: the reason stays with the row.");
      $("reason").reportValidity();
      return;
    }
    $("flag-dialog").close();
    const isSaved = await decide({ action: "flagged", reason }, `${exposureNow().name}: flagged`);
    if (isSaved && $("go-on").checked) await go(current + 1);
  }

  async function reset() {
    const exposure = exposureNow(), { row, measured, masked } = exposure;
    const hadDraft = drafts.has(exposure.key);
    if (row.decision || masked.length || row.method === "manual") {
      if (!measured) return say("There is no automatic result of this exposure.", "wrong");
      return decide({ action: "reset" }, `${exposure.name}: back to automatic`);
    }
    if (hadDraft) {
      done.push({ kind: "nudge", index: current, before: drafts.get(exposure.key) });
      dropDraft(exposure.key);
      say("back to automatic");
      showList();
      refresh();
    }
    return undefined;
  }

  async function undo() {
    if (busy) return;
    const last = done.pop();
    if (last && last.index !== current) await go(last.index);
    const key = exposureNow().key;
    if (last && last.kind === "nudge") {
      if (last.before) setDraft(key, last.before);
      else dropDraft(key);
      showList();
      refresh();
      return;
    }
    if (!last && drafts.has(key)) return void (dropDraft(key), showList(), refresh());
    await saving(current, () => review.undoSaved(current), `${exposureNow().name}: undone`);
    if (last && last.draft) {
      setDraft(key, last.draft);
      showList();
      refresh();
    }
  }

  function nudge(right, up) {
    if (!field.images || busy || field.exposure.key !== exposureNow().key) return;
    const exposure = exposureNow();
    done.push({ kind: "nudge", index: current, before: drafts.get(exposure.key) });
    setDraft(exposure.key, review.nudged(field.images, field.offset, right, up));
    say("moved; A accepts, U undoes, R goes back");
    showList();
    refresh();
  }

  // --- what was moved and not accepted survives a reload ------------------------------------------

  const draftPlace = () => `musedask drafts ${state.summary.folder}/${state.summary.table}`;

  function setDraft(key, offset) {
    drafts.set(key, offset);
    keepDrafts();
  }

  function dropDraft(key) {
    if (drafts.delete(key)) keepDrafts();
  }

  function keepDrafts() {
    const kept = state.exposures.filter((one) => drafts.has(one.key))
      .map((one) => [one.key, one.version, drafts.get(one.key)]);
    try { localStorage.setItem(draftPlace(), JSON.stringify(kept)); } catch { /* not kept then */ }
  }

  function restoreDrafts() {
    let kept = [];
    try { kept = JSON.parse(localStorage.getItem(draftPlace()) || "[]"); } catch { /* none */ }
    for (const [key, version, offset] of kept) {
      if (state.exposures.some((one) => one.key === key && one.version === version)) drafts.set(key, offset);
    }
  }

  // --- masks -----------------------------------------------------------------------------------

  const radius = () => {
    const fwhm = field.images.fwhm || (exposureNow().measured || {}).fwhm_arcsec;
    return Math.max(1, 1.5 * (review.known(fwhm) ? fwhm : 0.7));
  };

  function maskAt(sx, sy) {
    if (!field.images) return;
    const [ra_deg, dec_deg] = field.toSky(...field.toLattice(sx, sy)), here = { ra_deg, dec_deg };
    const masked = exposureNow().masked;
    const inMask = masked.findIndex((one) => review.distance(here, one) < one.radius_arcsec);
    if (inMask >= 0) return void actions.unmask(inMask);
    const near = exposureNow().measured.sources
      .map((one, i) => [review.distance(one, here), i]).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < radius()) return void actions.maskSource(near[1]);
    mask([...masked, { ra_deg, dec_deg, radius_arcsec: radius() }]);
  }

  function mask(masked) {
    setWantsMask(false);
    if (!masked.length) return decide({ action: "reset" }, "nothing is masked");
    say("fitting again …");
    return decide({ action: "masked", masked }, `fitted again, ${masked.length} masked; A accepts`);
  }

  const actions = {
    unmask: (i) => mask(exposureNow().masked.filter((_, j) => j !== i)),
    maskSource: (i) => {
      const { ra_deg, dec_deg } = exposureNow().measured.sources[i];
      return mask([...exposureNow().masked, { ra_deg, dec_deg, radius_arcsec: radius() }]);
    },
    light: (i) => { field.lit = i; field.draw(); },
  };

  function setWantsMask(wanted) {
    wantsMask = wanted;
    $("mask").setAttribute("aria-pressed", String(wanted));
    if (wanted) say("click on the source to mask");
  }

  // --- what is shown ------------------------------------------------------------------------------

  function setMode(mode) {
    field.mode = field.mode === mode ? "blink" : mode;
    $("difference").setAttribute("aria-pressed", String(field.mode === "difference"));
    $("swipe").setAttribute("aria-pressed", String(field.mode === "swipe"));
    $("divider").hidden = field.mode !== "swipe";
    field.draw();
  }

  function blink() {
    if (field.mode !== "blink") setMode("blink");
    field.showsReference = !field.showsReference;
    field.draw();
  }

  function toggleContours() {
    field.contours = !field.contours;
    $("contours").setAttribute("aria-pressed", String(field.contours));
    field.draw();
  }

  function setAuto() {
    clearInterval(timer);
    if ($("auto").checked) timer = setInterval(() => { if (!document.hidden) blink(); }, 600);
  }

  function fit() {
    field.fit();
    field.draw();
  }

  async function loadMosaic() {
    $("mosaic-note").textContent = "being made …";
    try {
      const found = await mosaic.load();
      const rms = review.known(found.rms) ? `; rms of the difference ${`${Number(found.rms.toPrecision(3))} ${found.units}`.trim()}` : "";
      const file = `${found.folder}/mosaic.fits`;
      $("mosaic-note").textContent = `mean of ${found.exposures}, north up, east left${rms}; ${file.split("/").slice(-2).join("/")}`;
      $("mosaic-note").title = file;
    } catch (error) {
      $("mosaic-note").textContent = error.message;
    }
  }

  function enlarge() {
    const large = $("mosaic").classList.toggle("large");
    $("enlarge").setAttribute("aria-pressed", String(large));
    mosaic.draw();
    resized();
  }

  function resized() {
    fit();
    mosaic.draw();
  }

  // --- keys and mouse --------------------------------------------------------------------------

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const KEYS = {
    d: () => setMode("difference"), s: () => setMode("swipe"), c: toggleContours,
    m: () => (pointer ? maskAt(...pointer) : setWantsMask(!wantsMask)),
    r: reset, a: accept, f: askToFlag, n: () => go(current + 1), p: () => go(current - 1),
    u: undo, 0: fit, "?": () => $("help-dialog").showModal(), Escape: () => setWantsMask(false),
  };

  function onKey(event) {
    const target = event.target, tag = target.tagName;
    if (event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (tag === "INPUT" && target.type !== "checkbox" || tag === "SELECT") return;
    if (event.key in ARROWS) {
      const step = event.shiftKey ? 1 : event.altKey ? 0.05 : 0.2;
      event.preventDefault(); // Alt with an arrow is the browser's way back
      nudge(...ARROWS[event.key].map((one) => one * step));
    } else if (event.key === " " && tag !== "BUTTON" && tag !== "INPUT") {
      event.preventDefault();
      if (!event.repeat) blink();
    } else if (!event.altKey) {
      const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || event.repeat) return;
      event.preventDefault();
      action();
    }
  }

  function setUpMouse() {
    const picture = $("picture");
    let from = null;
    picture.addEventListener("pointermove", (event) => {
      pointer = [event.offsetX, event.offsetY];
      if (!field.images) return;
      $("readout").textContent = field.readout(...pointer);
      if (!from) return;
      if (field.mode === "swipe") return setDivider(event.offsetX / picture.clientWidth);
      field.middle = [from.middle[0] - (event.offsetX - from.x) / field.zoom,
        from.middle[1] + (event.offsetY - from.y) / field.zoom];
      field.draw();
    });
    picture.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !field.images) return;
      if (wantsMask) {
        setWantsMask(false);
        maskAt(event.offsetX, event.offsetY);
        return;
      }
      picture.setPointerCapture(event.pointerId);
      from = { x: event.offsetX, y: event.offsetY, middle: field.middle };
      if (field.mode === "swipe") setDivider(event.offsetX / picture.clientWidth);
    });
    picture.addEventListener("pointerup", () => { from = null; });
    picture.addEventListener("pointerleave", () => { pointer = null; $("readout").textContent = "\u00a0"; });
    picture.addEventListener("wheel", (event) => {
      if (!field.images) return;
      event.preventDefault();
      const at = field.toLattice(event.offsetX, event.offsetY);
      const zoom = Math.min(60, Math.max(0.2, field.zoom * 1.2 ** -Math.sign(event.deltaY)));
      field.middle = at.map((one, i) => one + ((field.middle[i] - one) * field.zoom) / zoom);
      field.zoom = zoom;
      field.draw();
    }, { passive: false });
  }

  function setDivider(share) {
    field.divider = Math.min(1, Math.max(0, share));
    $("divider").value = field.divider;
    field.draw();
  }

  function setUpButtons() {
    const step = () => Number($("step").value);
    const clicks = {
      blink, difference: () => setMode("difference"), swipe: () => setMode("swipe"), contours: toggleContours,
      fit, mask: () => setWantsMask(!wantsMask), reset, undo, flag: askToFlag, accept, enlarge,
      remake: loadMosaic, help: () => $("help-dialog").showModal(),
      previous: () => go(current - 1), next: () => go(current + 1),
      left: () => nudge(-step(), 0), right: () => nudge(step(), 0), up: () => nudge(0, step()), down: () => nudge(0, -step()),
      "flag-cancel": () => $("flag-dialog").close(),
      "save-file": () => {
        try { say(`review.json holds ${review.saveFile()} decisions; musedask align --apply takes it`, "saved"); }
        catch (error) { say(error.message, "wrong"); }
      },
    };
    for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => action());
    // After a click with the mouse the keys belong to the picture again: Space would press the
    // button once more.
    document.addEventListener("click", (event) => {
      const pressed = event.target.closest("button, input[type=checkbox], input[type=range]");
      if (pressed && event.detail > 0) pressed.blur();
    });
    $("flag-dialog").querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      flag();
    });
    $("reason").addEventListener("input", () => $("reason").setCustomValidity(""));
    $("auto").addEventListener("change", setAuto);
    $("arrows").addEventListener("change", () => { field.arrows = $("arrows").checked; field.draw(); });
    $("footprints").addEventListener("change", () => { mosaic.overlay = $("footprints").checked; mosaic.draw(); });
    $("divider").addEventListener("input", () => setDivider(Number($("divider").value)));
    for (const id of ["brightness", "faint"]) {
      $(id).addEventListener("input", () => { field[id] = Number($(id).value); field.repaint(); });
    }
    for (const [name, canvas] of Object.entries(mosaic.canvases)) {
      canvas.addEventListener("click", (event) => {
        const found = mosaic.pick(name, event.offsetX, event.offsetY);
        if (found >= 0) go(found);
      });
    }
  }

  // Another tab may have decided meanwhile: look again on coming back.
  async function lookAgain() {
    if (document.hidden || busy || review.isStatic()) return;
    const versions = state.exposures.map((one) => one.version).join();
    const before = state.exposures;
    try {
      if (!(await review.loadSummary())) return;
    } catch {
      return;
    }
    if (state.exposures.map((one) => one.version).join() !== versions) {
      for (const one of state.exposures) {
        const old = before.find((e) => e.key === one.key);
        if (old && old.version !== one.version) dropDraft(one.key);
      }
      say("the table was changed elsewhere; this is how it is now");
      done.length = 0;
      await go(current);
    }
  }

  async function start() {
    setUpButtons();
    setUpMouse();
    document.addEventListener("keydown", onKey);
    new ResizeObserver(resized).observe($("stage"));
    try {
      await review.loadSummary();
      const { summary } = state;
      $("table-name").textContent = summary.table;
      document.title = `${summary.table} · musedask review`;
      $("save-file").hidden = !review.isStatic();
      $("remake").hidden = review.isStatic();
      restoreDrafts();
      await go(0);
    } catch (error) {
      say(error.message, "wrong");
      return;
    }
    window.addEventListener("focus", lookAgain);
    document.body.dataset.ready = "yes";
    await loadMosaic();
  }

  review.now = () => ({ current, exposure: exposureNow(), offset: field.offset, correlation: field.correlation,
    busy: busy || loading > 0 });
  start();
})(window.review);
