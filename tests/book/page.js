// What test_site.py asks of a page in the browser.
window.look = {
  async ready() {
    if (window.MathJax) await MathJax.startup.promise;
    await document.fonts.ready;
  },

  faults() {
    return {
      raw: [...document.querySelectorAll("article .math")].filter((e) => !e.querySelector("mjx-container")).length,
      wrong: [...document.querySelectorAll("[data-mjx-error]")].map((e) => e.dataset.mjxError),
      dollars: document.querySelector("article").innerText.includes("$$"),
      broken: [...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src),
      no_fonts: ![...document.fonts].some((f) => f.family.includes("Source") && f.status === "loaded"),
    };
  },

  measure() {
    const article = document.querySelector("article");
    const all = (selector) => [...article.querySelectorAll(selector)].filter((e) => e.checkVisibility() && e.clientHeight);
    const lines = (text) => text.trimEnd().split("\n");
    const code = all("div.highlight").filter((e) => !e.closest(".cell_output"));
    // Three lines or more with two gaps or more between words: columns.
    const columns = (e) => lines(e.innerText).filter((l) => (l.trim().match(/\S {2,}(?=\S)/g) || []).length > 1).length > 2;
    const pictures = all("figure img, .cell_output img");
    const equations = all(".math").map((e) => [e.id || e.innerText, e.querySelector("mjx-container")]).filter((e) => e[1]);
    const shown = (e) => e.querySelector("svg").getBoundingClientRect().width;
    return {
      height: document.documentElement.scrollHeight,
      sideways: document.documentElement.scrollWidth - innerWidth,
      code: Math.round((100 * code.reduce((sum, e) => sum + e.clientHeight, 0)) / article.clientHeight),
      longest_cell: Math.max(0, ...all(".cell_input").map((e) => lines(e.innerText).length)),
      text_tables: all(".cell_output pre").filter(columns).length,
      tables: all("table").length,
      clipped: equations.filter(([, e]) => shown(e) > e.clientWidth + 1).map(([name, e]) => `${name} ${shown(e)} px`),
      // Not by all(): what stands in a line has no client height.
      torn: [...article.querySelectorAll(".together")].filter((e) => e.getClientRects().length > 1).map((e) => e.parentElement.innerText.slice(0, 60)),
      overprinted: all("dt.sig").filter((sig) => {
        const places = [...sig.querySelectorAll(".sig-name, .sig-param")].map((e) => {
          const text = document.createRange();
          text.selectNodeContents(e);
          return [...text.getClientRects()];
        });
        return places.slice(1).some(([next], place) => {
          const before = places[place].at(-1);
          return Math.abs(next.top - before.top) < 4 && next.left < before.right - 1;
        });
      }).map((e) => e.innerText.slice(0, 60)),
      scrolling: all("pre").filter((e) => e.scrollWidth > e.clientWidth + 1).length,
      first_figure: pictures.length ? Math.round(pictures[0].getBoundingClientRect().top + scrollY) : null,
      pictures: all(".cell_output img")
        .filter((e) => !e.closest(".slider"))
        .map((e) => [e.naturalWidth, e.naturalHeight, e.clientWidth, e.clientHeight]),
    };
  },

  // As if the site's own fonts had not arrived.
  dropFonts() {
    for (const sheet of document.styleSheets) {
      for (let place = sheet.cssRules.length - 1; place >= 0; place--) {
        const rule = sheet.cssRules[place];
        if (rule instanceof CSSFontFaceRule && rule.cssText.includes("Source")) sheet.deleteRule(place);
      }
    }
  },

  // Before axe reads the page: equations have no text of their own, and of each kind of token three stand for all.
  prune() {
    const count = {};
    const ground = new Map([...document.querySelectorAll(".highlight")].map((e) => [e, getComputedStyle(e).backgroundColor]));
    document.querySelectorAll("mjx-container").forEach((e) => e.remove());
    for (const e of document.querySelectorAll(".highlight span")) {
      const kind = e.className + ground.get(e.closest(".highlight"));
      count[kind] = (count[kind] || 0) + 1;
      if (count[kind] > 3) e.replaceWith(e.textContent);
    }
  },
};
