// Light, dark, or what the system says: applied before the first paint, changed by the switch, kept in this browser.
"use strict";
(() => {
  const KEY = "rlt-theme";
  const root = document.documentElement;
  const saved = () => {
    try { return localStorage.getItem(KEY) || "auto"; } catch { return "auto"; }
  };
  root.dataset.theme = saved();
  root.classList.add("js");
  document.addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    if (!choice) return;
    choice.value = root.dataset.theme;
    choice.addEventListener("change", () => {
      root.dataset.theme = choice.value;
      try { localStorage.setItem(KEY, choice.value); } catch { /* kept for this page alone */ }
    });
  });
})();
