/**
 * Tabs after the ARIA pattern: arrow keys move between them, one at a time is in the tab order.
 */

/**
 * @param {HTMLElement} list The element with role="tablist"; its tabs name their panels by
 * aria-controls.
 * @param {(id: string) => void} [onchange] Gets the id of the panel that is now shown.
 */
export function tabs(list, onchange = () => {}) {
  const all = [...list.querySelectorAll("[role=tab]")].filter((tab) => tab instanceof HTMLElement);

  /** @param {HTMLElement} chosen */
  function select(chosen) {
    for (const tab of all) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      const panel = document.getElementById(tab.getAttribute("aria-controls") ?? "");
      if (panel) panel.hidden = !isChosen;
    }
    onchange(chosen.getAttribute("aria-controls") ?? "");
  }

  for (const tab of all) tab.addEventListener("click", () => select(tab));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = all.findIndex((tab) => tab === document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    const visible = all.filter((tab) => !tab.hidden);
    const next = visible[(visible.indexOf(all[at]) + step + visible.length) % visible.length];
    select(next);
    next.focus();
  });

  return {
    /** Shows a panel. @param {string} panel */
    show(panel) {
      const tab = all.find((each) => each.getAttribute("aria-controls") === panel);
      if (tab) select(tab);
    },
  };
}
