/** Numbers as a person would say them. */

/** "40 s", "3 min 20 s", "2 h 5 min". @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return "under 1 s";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) {
    const rest = whole % 60;
    return `${Math.floor(whole / 60)} min${rest ? ` ${rest} s` : ""}`;
  }
  const minutes = Math.floor((whole % 3600) / 60);
  return `${Math.floor(whole / 3600)} h${minutes ? ` ${minutes} min` : ""}`;
}

/** "3.4 MB", in powers of 1000 as disks are sold. @param {number} count */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count < 10 && unit > 0 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** "today 14:05", or the day. @param {string | null} time */
export function when(time) {
  const date = time ? new Date(time) : null;
  if (!date || Number.isNaN(date.getTime())) return "";
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const today = date.toDateString() === new Date().toDateString();
  return today
    ? clock
    : `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${clock}`;
}

/**
 * At most `length` characters, with a mark where some are left out.
 *
 * @param {string} text
 * @param {number} length
 */
export function shortened(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 1).trimEnd()}…`;
}

/** A noise level, with three digits that count. @param {number} value */
export function sigma(value) {
  return Number(value.toPrecision(3)).toString();
}
