// Equations shrink with the column (custom.css) to no less than this share of their size, and scroll in it below that.
const smallest = 0.54;

window.addEventListener("load", async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  for (const svg of document.querySelectorAll(".math mjx-container > svg[width$='ex']")) {
    svg.style.minWidth = `${smallest * parseFloat(svg.getAttribute("width"))}ex`;
  }
  // What scrolls must be reachable by the keyboard.
  for (const frame of document.querySelectorAll(".output.text_html, .pst-scrollable-table-container")) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
  }
});
