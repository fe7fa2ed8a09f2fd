// Runs before anything is painted, so that a chosen theme never flashes. The choice is light, dark, or the system's.
"use strict";
(() => {
  const KEY = "offshoot.watch.theme";
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      // Storage may be forbidden; then there is no choice to keep.
      return null;
    }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(read());
  window.offshootTheme = {
    /** The theme that is shown now. */
    shown: () => root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
    /** Shows the other one and keeps it. */
    toggle() {
      const next = this.shown() === "dark" ? "light" : "dark";
      apply(next);
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // Then it holds until the page is left.
      }
      window.dispatchEvent(new Event("themechange"));
      return next;
    },
  };
})();
