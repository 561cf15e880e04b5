/** Asks for the server's key when it wants one; the server answers with a cookie. */

import { api, ApiError, whenKeyIsNeeded } from "./api.js";
import { byId } from "./dom.js";

/**
 * The question that is open; further calls wait for the same answer.
 *
 * @type {Promise<boolean> | null}
 */
let open = null;

export function startApiKey() {
  whenKeyIsNeeded(() => (open ??= ask().finally(() => (open = null))));
}

/** @returns {Promise<boolean>} */
function ask() {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const form = byId("key-form", HTMLFormElement);
  const field = byId("key", HTMLInputElement);
  const problem = byId("key-problem", HTMLElement);
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await api.openSession(field.value);
        field.value = "";
        resolve(true);
        dialog.close();
      } catch (error) {
        const isWrong = error instanceof ApiError && error.status === 401;
        problem.textContent = isWrong ? "This is not the server’s key." : String(error);
      }
    };
    dialog.onclose = () => resolve(false);
    problem.textContent = "";
    dialog.showModal();
  });
}
