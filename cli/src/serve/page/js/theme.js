/** Light and dark: the system's choice until the person makes another. */

import { button, byId } from "./dom.js";
import { stored } from "./stored.js";

const choice = stored("theme", /** @type {"light" | "dark" | null} */ (null));
const system = window.matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (choice.get() ? choice.get() === "dark" : system.matches);

export function startTheme() {
  const toggle = button("", () => {
    const next = isDark() ? "light" : "dark";
    // Back at the system's own choice, follow it again.
    choice.set(next === (system.matches ? "dark" : "light") ? null : next);
    apply();
  });
  toggle.className = "quiet icon theme";
  byId("header-tools", HTMLElement).append(toggle);

  function apply() {
    const chosen = choice.get();
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
    const label = isDark() ? "Light colours" : "Dark colours";
    toggle.setAttribute("aria-label", label);
    toggle.title = label;
  }
  system.addEventListener("change", apply);
  apply();
}
