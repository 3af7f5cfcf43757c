// Equations shrink with the column (custom.css) to no less than this share of their size, and scroll in it below that.
const smallest = 0.54;

// What scrolls in its frame must be reachable by the keyboard, at the width that the window has now.
function reach() {
  const frames = "div.highlight pre, .cell_output pre, .output.text_html, .pst-scrollable-table-container";
  for (const frame of document.querySelectorAll(frames)) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
    else frame.removeAttribute("tabindex");
  }
}

window.addEventListener("load", async () => {
  reach();
  window.addEventListener("resize", reach);
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  for (const svg of document.querySelectorAll(".math mjx-container > svg[width$='ex']")) {
    svg.style.minWidth = `${smallest * parseFloat(svg.getAttribute("width"))}ex`;
  }
});
