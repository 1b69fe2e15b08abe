// Drawing a heatmap over the image that it is of: in the pages that `serve` shows, and in the report.

export const NAMES = { cnn: "CNN", vit: "ViT" };

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "role") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.995 && share < 1 ? 1 : 0)} %`;

export function drawLegend(canvas, colours) {
  const context = canvas.getContext("2d");
  colours.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect((i * canvas.width) / colours.length, 0, canvas.width / colours.length + 1, 1);
  });
}

// From 0 at the lowest value (or at 0, if that is higher) to 1 at the highest, as in the report.
function stretched(map) {
  const positive = map.map((row) => row.map((value) => Math.max(value, 0)));
  const all = positive.flat();
  const low = Math.min(...all), high = Math.max(...all);
  return positive.map((row) => row.map((value) => (high > low ? (value - low) / (high - low) : 0)));
}

// For each of `side` places, four cells around it and their weights: cubic, as in the report.
function cubic(n, side) {
  const near = (t) => 1.5 * t ** 3 - 2.5 * t ** 2 + 1, far = (t) => -0.5 * t ** 3 + 2.5 * t ** 2 - 4 * t + 2;
  return Array.from({ length: side }, (_, p) => {
    const at = ((p + 0.5) * n) / side - 0.5, first = Math.floor(at) - 1;
    return [0, 1, 2, 3].map((k) => {
      const away = Math.abs(at - first - k);
      return [Math.min(Math.max(first + k, 0), n - 1), away < 1 ? near(away) : far(away)];
    });
  });
}

function smooth(map, side) {
  const rows = cubic(map.length, side), columns = cubic(map[0].length, side);
  const wide = map.map((row) => columns.map((taps) => taps.reduce((sum, [j, w]) => sum + w * row[j], 0)));
  return rows.map((taps) => columns.map((_, x) => {
    const value = taps.reduce((sum, [i, w]) => sum + w * wide[i][x], 0);
    return Math.min(Math.max(value, 0), 1);
  }));
}

// The image in grey, and the map's colours over it: all colour is the map's.
export function drawHeat(canvas, pixels, map, colours, opacity) {
  const side = canvas.width, heat = smooth(stretched(map), side);
  const shades = colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const drawn = new ImageData(side, side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const from = 4 * (32 * Math.floor((32 * y) / side) + Math.floor((32 * x) / side));
      const grey = 0.299 * pixels[from] + 0.587 * pixels[from + 1] + 0.114 * pixels[from + 2];
      const shade = shades[Math.round(heat[y][x] * (shades.length - 1))];
      const to = 4 * (side * y + x);
      for (let k = 0; k < 3; k++) drawn.data[to + k] = (1 - opacity) * grey + opacity * shade[k];
      drawn.data[to + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(drawn, 0, 0);
}

// The 32 x 32 pixels of an image file in a Blob, or at an address.
export async function pixelsOf(source) {
  const address = typeof source === "string" ? source : URL.createObjectURL(source);
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = element("canvas", { width: 32, height: 32 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, 32, 32);
  if (address !== source) URL.revokeObjectURL(address);
  return context.getImageData(0, 0, 32, 32).data;
}
