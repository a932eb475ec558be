"""Script of the report's point cloud: draws points into a canvas by itself, so that no browser lacks what it needs."""

CLOUD_STYLE = """
.cloud canvas { width: 100%; height: min(60vh, 520px); display: block; border: 1px solid var(--rule);
  border-radius: 8px; background: #10141a; cursor: grab; touch-action: none; }
.cloud canvas:active { cursor: grabbing; } .cloud .legend { margin-top: 8px; align-items: center; }
.cloud .key i { border-color: #b9c4d3; } .cloud .key i.truth { border-color: rgb(40, 170, 120); }
"""

CLOUD_SCRIPT = """
for (const box of document.querySelectorAll('.cloud')) {
  const canvas = box.querySelector('canvas'), context = canvas.getContext('2d');
  const counts = box.dataset.counts.split(' ').map(Number), unit = Number(box.dataset.unit);
  const corner = box.dataset.corner.split(' ').map(Number);
  const bytes = Uint8Array.from(atob(box.querySelector('script').textContent), c => c.charCodeAt(0));
  // Of each part 2-byte coordinates, then colours.
  const parts = [];
  let at = 0;
  for (const count of counts) {
    const xyz = new Float32Array(3 * count), view = new DataView(bytes.buffer, at, 6 * count);
    for (let i = 0; i < 3 * count; i++) xyz[i] = corner[i % 3] + unit * view.getUint16(2 * i, true);
    parts.push({ xyz, rgb: bytes.subarray(at + 6 * count, at + 9 * count), shown: true });
    at += 9 * count;
  }
  const middle = [0, 1, 2].map(axis => {
    const sample = [];
    for (const { xyz } of parts) for (let i = axis; i < xyz.length; i += 3 * 7) sample.push(xyz[i]);
    sample.sort((a, b) => a - b);
    const at = share => sample[Math.floor(sample.length * share)] || 0;
    return [at(.5), at(.95) - at(.05) || 1];
  });
  const extent = Math.max(...middle.map(m => m[1]));
  const start = () => ({ target: middle.map(m => m[0]), yaw: -2.4, pitch: .55, distance: 1.2 * extent });
  let camera = start(), waiting = false;
  const draw = () => {
    waiting = false;
    const ratio = Math.min(devicePixelRatio || 1, 2), width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    pixels.fill(0xff1a1410);
    const nearest = new Float32Array(width * height).fill(Infinity);
    const { right, up, forward, eye } = axes(), focal = .9 * Math.min(width, height), size = ratio > 1 ? 3 : 2;
    for (const { xyz, rgb, shown } of parts) if (shown) for (let i = 0; i < xyz.length; i += 3) {
      const x = xyz[i] - eye[0], y = xyz[i + 1] - eye[1], z = xyz[i + 2] - eye[2];
      const depth = x * forward[0] + y * forward[1] + z * forward[2];
      if (depth < .01 * camera.distance) continue;
      const u = Math.round(width / 2 + focal * (x * right[0] + y * right[1] + z * right[2]) / depth);
      const v = Math.round(height / 2 - focal * (x * up[0] + y * up[1] + z * up[2]) / depth);
      if (u < 0 || v < 0 || u > width - size || v > height - size) continue;
      const colour = 0xff000000 | rgb[i + 2] << 16 | rgb[i + 1] << 8 | rgb[i];
      for (let b = 0; b < size; b++) for (let a = 0; a < size; a++) {
        const place = (v + b) * width + u + a;
        if (depth < nearest[place]) { nearest[place] = depth; pixels[place] = colour; }
      }
    }
    context.putImageData(image, 0, 0);
  };
  const axes = () => {
    const { yaw, pitch } = camera, cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    const forward = [-cy * cp, -sy * cp, -sp];
    return { forward, right: [-sy, cy, 0], up: [-cy * sp, -sy * sp, cp],
      eye: camera.target.map((value, axis) => value - camera.distance * forward[axis]) };
  };
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  let last = null;
  canvas.addEventListener('pointerdown', event => {
    last = [event.clientX, event.clientY];
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
  });
  canvas.addEventListener('pointerup', () => { last = null; });
  canvas.addEventListener('contextmenu', event => event.preventDefault());
  canvas.addEventListener('pointermove', event => {
    if (!last) return;
    const dx = event.clientX - last[0], dy = event.clientY - last[1];
    last = [event.clientX, event.clientY];
    if (event.shiftKey || event.buttons & 2) {
      const { right, up } = axes(), step = camera.distance / canvas.clientHeight;
      camera.target = camera.target.map((value, axis) => value + step * (dy * up[axis] - dx * right[axis]));
    } else {
      camera.yaw -= .008 * dx;
      camera.pitch = Math.max(-1.57, Math.min(1.57, camera.pitch + .008 * dy));
    }
    redraw();
  });
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    camera.distance *= Math.exp(.0012 * event.deltaY);
    redraw();
  }, { passive: false });
  for (const key of box.querySelectorAll('.key')) key.addEventListener('click', () => {
    if (key.dataset.part) {
      const part = parts[key.dataset.part];
      part.shown = !part.shown;
      key.setAttribute('aria-pressed', String(part.shown));
    } else {
      camera = start();
      if (key.dataset.view === 'top') camera.pitch = 1.57;
    }
    redraw();
  });
  new ResizeObserver(redraw).observe(canvas);
  draw();
}
"""
