// The right side: numbers with their units, reasons, sources, masks, history.
"use strict";

(function (review) {
  const facts = document.getElementById("facts");
  const arcsec = "arcsec";

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") made.className = value;
      else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }
  review.element = element;

  const signed = (value, digits) => {
    const size = Math.abs(value).toFixed(digits);
    return (value < 0 && Number(size) ? "−" : "+") + size;
  };
  const number = (value, digits, sign) => {
    if (!review.known(value)) return "–";
    return sign ? signed(value, digits) : value.toFixed(digits).replace("-", "−");
  };
  const withError = (value, error, digits, sign) =>
    number(value, digits, sign) + (review.known(error) ? ` ± ${error.toFixed(digits)}` : "");
  const short = (value) => (review.known(value) ? String(Number(value.toPrecision(4))).replace("-", "−") : "–");

  // As many digits as the error deserves.
  const scaled = (value, error) =>
    withError(value, error, error > 0 ? Math.min(9, Math.max(0, 1 - Math.floor(Math.log10(error)))) : 3);

  function row(name, values, unit, kind = "") {
    return element("tr", { class: kind }, element("td", {}, name),
      ...values.map((value) => element("td", {}, value)),
      ...(unit === null ? [] : [element("td", { class: "unit" }, unit)]));
  }

  review.gradeBadge = function (grade) {
    const words = { A: "good", B: "usable", C: "doubtful", F: "failed" };
    return element("span", { class: `grade grade-${grade || "none"}`,
      title: grade ? `grade ${grade}: ${words[grade]}` : "not graded",
      "aria-label": grade ? `grade ${grade}, ${words[grade]}` : "not graded" }, grade || "·");
  };

  review.stateWords = function (exposure, isDraft) {
    const { row, masked } = exposure, by = row.decided_by ? ` by ${row.decided_by}` : "";
    if (isDraft) return ["draft", "moved, not accepted"];
    if (row.decision) return [row.decision, `${row.decision}${by}`];
    if (masked.length) return ["draft", `${masked.length} masked, not accepted`];
    if (row.method === "manual") return ["moved", `set by hand${by}`];
    return ["", "open"];
  };

  // Everything on one exposure. `now` has the offset that is shown and its correlations.
  review.showFacts = function (exposure, now, actions) {
    const measured = exposure.measured, row_ = exposure.row;
    const parts = [title(exposure, now), offsets(exposure, now), agreement(now)];
    if (measured) parts.push(quality(exposure, measured));
    parts.push(reasons(exposure), masks(exposure, actions));
    if (measured) parts.push(sources(exposure, actions));
    parts.push(history(exposure, row_));
    const top = facts.scrollTop;
    facts.replaceChildren(...parts.filter(Boolean));
    facts.scrollTop = top;
  };

  function title(exposure, now) {
    const [kind, words] = review.stateWords(exposure, now.isDraft);
    return element("div", {},
      element("div", { class: "title" },
        review.gradeBadge(exposure.measured ? exposure.measured.grade : exposure.row.grade),
        element("strong", {}, exposure.name || exposure.key)),
      element("p", { class: "quiet" }, `${exposure.key}  ·  `, element("span", { class: kind, id: "state" }, words)));
  }

  function offsets(exposure, now) {
    const { measured, row: inTable } = exposure, auto = measured || {};
    const line = (name, one) => row(name, [withError(one.ra_offset_arcsec, one.ra_error_arcsec, 3, true),
      withError(one.dec_offset_arcsec, one.dec_error_arcsec, 3, true)], null);
    const table = element("table", {},
      element("tr", {}, ...["Offset, arcsec", "east", "north"].map((one) => element("th", {}, one))),
      line("automatic", auto), line("table", inTable),
      row("shown", [number(now.offset[0], 3, true), number(now.offset[1], 3, true)], null, "now"));
    const notes = [];
    if (exposure.provisional) notes.push("The offset without what is masked is an estimate; ‘musedask align --apply’ fits again.");
    return element("section", {}, table, ...notes.map((note) => element("p", { class: "quiet" }, note)));
  }

  function agreement(now) {
    if (!review.known(now.correlation)) return null;
    const bar = element("div", { class: "bar", role: "img", "aria-label": "correlation shown, a mark at the automatic one" });
    const filled = element("i"), mark = element("b");
    filled.style.width = `${100 * Math.max(0, now.correlation)}%`;
    bar.append(filled);
    if (review.known(now.automatic)) {
      mark.style.left = `${100 * Math.max(0, now.automatic)}%`;
      bar.append(mark);
    }
    const table = element("table", {},
      element("tr", {}, element("th", {}, "Correlation"), element("th", {}, "header"), element("th", {}, "automatic"), element("th", {}, "shown")),
      element("tr", { class: "now" }, element("td", {}, ""), element("td", {}, number(now.header, 3)),
        element("td", {}, number(now.automatic, 3)), element("td", { id: "correlation" }, number(now.correlation, 4))));
    return element("section", {}, table, bar);
  }

  function quality(exposure, m) {
    const rows = [
      row("sources", [String(m.n_sources)], ""),
      row("signal to noise", [number(m.signal_to_noise, 0)], ""),
      row("correlation as measured", [`${number(m.correlation_before, 2)} → ${number(m.correlation_after, 2)}`], ""),
      row("FWHM", [number(m.fwhm_arcsec, 2)], arcsec),
      row("blue − red", [withError(m.blue_red_arcsec, m.blue_red_error_arcsec, 3)], arcsec),
      row("rotation", [withError(m.rotation_deg, m.rotation_error_deg, 3, true)], "deg"),
      row("flux scale", [scaled(m.flux_scale, m.flux_scale_error)], ""),
      row("background", [review.known(m.background_error) ? scaled(m.background, m.background_error) : short(m.background)], ""),
    ];
    const known = rows.filter((one) => one.children[1].textContent !== "–");
    return element("section", {}, element("table", {}, ...known),
      element("p", { class: "quiet" }, `${m.method}${m.frame ? ` · frame ${m.frame}` : ""}`));
  }

  function reasons(exposure) {
    const list = exposure.measured ? exposure.measured.reasons.slice() : [];
    const note = exposure.row.note;
    if (note && !list.includes(note) && note !== list.join("; ")) list.push(note);
    if (!list.length) return null;
    return element("section", {}, element("h2", {}, "Reasons"),
      element("ul", { id: "reasons-list" }, ...list.map((one) => element("li", {}, one))));
  }

  function masks(exposure, actions) {
    if (!exposure.masked.length) return null;
    return element("section", {}, element("h2", {}, "Masked"),
      element("table", { class: "sources" }, ...exposure.masked.map((one, i) => element("tr", {},
        element("td", {}, `${one.ra_deg.toFixed(5)}° ${one.dec_deg.toFixed(5)}°`),
        element("td", {}, `${one.radius_arcsec.toFixed(1)}″`),
        element("td", {}, element("button", { type: "button", "aria-label": `Take mask ${i + 1} away`,
          onclick: () => actions.unmask(i) }, "take away"))))));
  }

  function sources(exposure, actions) {
    const all = exposure.measured.sources;
    if (!all.length) return null;
    const head = element("tr", {}, ...["", "east", "north", "error", "S/N", ""].map((one) => element("th", {}, one)));
    const rows = all.map((one, i) => {
      const [east, north] = review.field.residual(one);
      const error = Math.hypot(one.ra_error_arcsec, one.dec_error_arcsec) / Math.SQRT2;
      return element("tr", { class: one.used ? "" : "unused", title: one.used ? "" : `does not count: ${one.reason}`,
        onmouseenter: () => actions.light(i), onmouseleave: () => actions.light(-1) },
      element("td", {}, one.used ? `${i + 1}` : `${i + 1} ${one.reason}`), element("td", {}, signed(east, 2)),
      element("td", {}, signed(north, 2)), element("td", {}, number(error, 2)), element("td", {}, number(one.signal_to_noise, 0)),
      element("td", {}, element("button", { type: "button", "aria-label": `Mask source ${i + 1}`,
        onfocus: () => actions.light(i), onblur: () => actions.light(-1), onclick: () => actions.maskSource(i) }, "mask")));
    });
    return element("section", {}, element("h2", {}, "Residuals of the sources, arcsec"),
      element("table", { class: "sources" }, head, ...rows));
  }

  function history(exposure) {
    if (!exposure.history.length) return null;
    return element("section", {}, element("h2", {}, "History"), element("ul", {},
      ...exposure.history.map((one) => element("li", {}, `${one.action}${one.who ? ` by ${one.who}` : ""}, ${one.when.replace("T", " ")} UT`))));
  }
})(window.review);
