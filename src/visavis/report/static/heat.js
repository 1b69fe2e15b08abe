// Drawing a heatmap over the image that it is of: in the pages that `serve` shows, and in the report.

export const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

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

// The map from 0 at its lowest value (or at 0, if that is higher) to 255 at its highest, enlarged smoothly.
function enlarged(map, side) {
  const values = map.flat().map((value) => Math.max(value, 0));
  const low = Math.min(...values), high = Math.max(...values);
  const levels = new ImageData(map.length, map.length);
  values.forEach((value, i) => levels.data.set([high > low ? (255 * (value - low)) / (high - low) : 0, 0, 0, 255], 4 * i));
  const cells = element("canvas", { width: map.length, height: map.length });
  cells.getContext("2d").putImageData(levels, 0, 0);
  return pixelsOf(cells, side);
}

// The image in grey, and the map's colours over it: all colour is the map's.
export function drawHeat(canvas, pixels, map, colours, opacity) {
  const side = canvas.width, own = Math.sqrt(pixels.length / 4), heat = enlarged(map, side);
  const shades = colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const drawn = new ImageData(side, side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const from = 4 * (own * Math.floor((own * y) / side) + Math.floor((own * x) / side));
      const grey = 0.299 * pixels[from] + 0.587 * pixels[from + 1] + 0.114 * pixels[from + 2];
      const to = 4 * (side * y + x);
      const shade = shades[Math.round((heat[to] / 255) * (shades.length - 1))];
      for (let k = 0; k < 3; k++) drawn.data[to + k] = (1 - opacity) * grey + opacity * shade[k];
      drawn.data[to + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(drawn, 0, 0);
}

function pixelsOf(drawable, side) {
  const context = element("canvas", { width: side, height: side }).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(drawable, 0, 0, side, side);
  return context.getImageData(0, 0, side, side).data;
}

// The pixels of the square image at an address.
export async function imagePixels(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return pixelsOf(image, image.naturalWidth);
}
