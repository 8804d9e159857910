// Presses the button for people. A page that is only prefetched or previewed is not visible, so it opens nothing.
(function () {
  "use strict";
  function open() {
    if (document.visibilityState !== "visible" || document.prerendering) return;
    document.removeEventListener("visibilitychange", open);
    document.getElementById("open").submit();
  }
  document.addEventListener("visibilitychange", open);
  open();
})();
