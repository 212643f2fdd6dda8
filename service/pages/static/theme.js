// Light, dark, or as the system has it; set before the page is drawn, so that it does not flash.
(() => {
  const ORDER = ["auto", "light", "dark"];
  const SAID = { auto: "as the system has them", light: "light", dark: "dark" };
  const root = document.documentElement;

  function read() {
    try {
      const kept = localStorage.getItem("answer-first-theme");
      return ORDER.includes(kept) ? kept : "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  }

  function show(theme) {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = theme[0].toUpperCase() + theme.slice(1);
      button.setAttribute("aria-label", `Colours: ${SAID[theme]}`);
    }
  }

  show(read());
  document.addEventListener("DOMContentLoaded", () => {
    show(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const next = ORDER[(ORDER.indexOf(root.dataset.theme) + 1) % ORDER.length];
      try {
        localStorage.setItem("answer-first-theme", next);
      } catch {
        // it then lasts as long as the page
      }
      show(next);
    });
  });
})();
