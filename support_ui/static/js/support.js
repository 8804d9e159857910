// The little that htmx does not do: "/" goes to the search box, a line's entries fold away again, and refusals that are
// no part of the page are shown as a message. Every page works without this file.
(() => {
  "use strict";

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const box = document.getElementById("search");
    if (!box) return;
    event.preventDefault();
    box.focus();
    box.select();
  });

  // Runs before htmx's own listener, which sits on the link itself.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-slot]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const slot = document.getElementById(link.dataset.slot);
    if (!slot) return;
    const open = link.getAttribute("aria-expanded") === "true";
    link.setAttribute("aria-expanded", String(!open));
    slot.closest("tr").hidden = open;
    if (open || slot.childElementCount) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }, true);

  const show = (text) => {
    const box = document.getElementById("trouble");
    box.textContent = text;
    box.hidden = false;
    box.focus();
  };

  document.addEventListener("htmx:before:response", (event) => {
    const response = event.detail.ctx.response;
    if (response.headers.get("X-Fragment") || response.headers.get("HX-Redirect")) return;
    if (response.status < 400) return;
    event.preventDefault();
    show(`This was refused (${response.status}) and nothing was changed. Reload the page and try again.`);
  });
  document.addEventListener("htmx:error", () => {
    show("The server did not answer. Reload the page to see what was done, then try again.");
  });

  // On a phone the navigation scrolls: where we are stays in sight.
  document.addEventListener("DOMContentLoaded", () => {
    const here = document.querySelector(".side nav [aria-current]");
    here?.parentElement.scrollTo({ left: here.offsetLeft - here.parentElement.offsetLeft - 32 });
  });

  // Whoever cannot see the page change hears what became of the form.
  document.addEventListener("htmx:after:swap", () => {
    document.getElementById("trouble").hidden = true;
    const notice = document.querySelector("[data-focus]");
    if (!notice) return;
    notice.removeAttribute("data-focus");
    notice.focus({ preventScroll: true });
    notice.scrollIntoView({ block: "nearest" });
  });
})();
