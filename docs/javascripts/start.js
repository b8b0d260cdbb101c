/* Puts a figure into each of its places: <div class="tuplet-figure" data-figure="NAME"></div>. */
"use strict";

for (const host of document.querySelectorAll(".tuplet-figure[data-figure]")) {
  const figure = tuplet.figures[host.dataset.figure];
  if (figure) {
    figure(host);
    host.classList.add("is-live"); // the still figure that follows is hidden, but for print
  }
}

/* The theme gives its search no name, which screen readers ask for. */
document.querySelector(".md-search")?.setAttribute("aria-label", tuplet.draw.say("Search"));

/* A table that has to be scrolled sideways is scrolled by keyboard, too. The theme wraps tables before the page is loaded. */
addEventListener("load", () => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap")) {
    if (wrap.scrollWidth > wrap.clientWidth) {
      wrap.tabIndex = 0;
    }
  }
});
