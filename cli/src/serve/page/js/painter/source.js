/** The picture that img2img and inpainting start from. */

import { ApiError } from "../api.js";

/**
 * @typedef {object} Source
 * @property {Blob} blob The file as it came: the server sees its bytes, not ours.
 * @property {ImageBitmap} bitmap
 * @property {number} width
 * @property {number} height
 * @property {string} name
 */

/** @type {Source | null} */
let current = null;
/** @type {Set<(source: Source | null) => void>} */
const subscribers = new Set();

export const source = {
  get: () => current,

  /**
   * Takes a picture.
   *
   * @param {Blob} blob
   * @param {string} name
   */
  async set(blob, name) {
    const bitmap = await createImageBitmap(blob).catch(() => {
      throw new ApiError(`${name} is not a picture that this browser can read.`);
    });
    const isReadable = ["image/png", "image/jpeg", "image/webp"].includes(blob.type);
    current?.bitmap.close();
    current = {
      blob: isReadable ? blob : await asPng(bitmap),
      bitmap,
      width: bitmap.width,
      height: bitmap.height,
      name,
    };
    for (const subscriber of subscribers) subscriber(current);
  },

  clear() {
    current?.bitmap.close();
    current = null;
    for (const subscriber of subscribers) subscriber(null);
  },

  /** @param {(source: Source | null) => void} subscriber */
  subscribe(subscriber) {
    subscribers.add(subscriber);
  },
};

/**
 * For formats that browsers read and the server does not (AVIF, GIF, BMP).
 *
 * @param {ImageBitmap} bitmap
 */
async function asPng(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** @param {Blob} blob @returns {Promise<string>} */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new ApiError("The file could not be read."));
    reader.readAsDataURL(blob);
  });
}

/** A picture of the server, as a file. @param {string} url */
export async function fetched(url) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new ApiError("The server no longer has this picture.");
  return response.blob();
}
