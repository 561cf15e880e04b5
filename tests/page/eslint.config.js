/** Lints the page and its tests. Run from the root of the repository (see `check`). */

import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/node_modules/", "**/test-results/"] },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-shadow": "error",
      "no-implicit-globals": "error",
      "no-implied-eval": "error",
      "max-lines": ["error", 500],
      complexity: ["error", 16],
      // A value that is checked before it is used is assigned twice.
      "no-useless-assignment": "off",
    },
  },
  {
    files: ["cli/src/serve/page/js/**"],
    languageOptions: { globals: globals.browser },
    rules: {
      // Text from outside never becomes markup.
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "use `element` of dom.js" },
        { property: "outerHTML", message: "use `element` of dom.js" },
        { property: "insertAdjacentHTML", message: "use `element` of dom.js" },
      ],
    },
  },
  {
    files: ["tests/page/**"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
    // Playwright reads from the pattern what a fixture needs: {} is nothing.
    rules: { "no-empty-pattern": "off" },
  },
];
