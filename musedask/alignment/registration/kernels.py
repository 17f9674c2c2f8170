"""The compiled loops of a registration. Arrays in, arrays out; none of them holds Python's lock.

Splines are cubic B-splines (Unser 1999, IEEE Signal Processing Magazine 16(6), 22).
"""

from __future__ import annotations

import math

import numpy as np

from musedask.compiling import fast_kept_kernel, kept_kernel, kernel

MAD_TO_SIGMA = 1.482602218505602
CLIP_SIGMA = 3.0
CLIPS = 4
_POLE = math.sqrt(3.0) - 2.0
"""Of the filter that makes a cubic spline's coefficients from its values."""
_HORIZON = 24
"""Its response has fallen below 1e-13 after so many pixels."""


@kept_kernel
def spline_filter(image):
    """Turn values into coefficients of the spline through them, in place, mirrored at the ends."""
    ny, nx = image.shape
    z = _POLE
    line = np.empty(nx)
    for y in range(ny):
        total = 0.0
        for k in range(min(_HORIZON, nx)):
            total += image[y, k] * z**k
        line[0] = total
        for x in range(1, nx):
            line[x] = image[y, x] + z * line[x - 1]
        if nx > 1:
            line[nx - 1] = z / (z * z - 1.0) * (line[nx - 1] + z * line[nx - 2])
            for x in range(nx - 2, -1, -1):
                line[x] = z * (line[x + 1] - line[x])
            for x in range(nx):
                image[y, x] = 6.0 * line[x]
    if ny == 1:
        return
    first = np.zeros(nx)
    for k in range(min(_HORIZON, ny)):
        for x in range(nx):
            first[x] += image[k, x] * z**k
    image[0] = first
    for y in range(1, ny):
        for x in range(nx):
            image[y, x] += z * image[y - 1, x]
    for x in range(nx):
        image[ny - 1, x] = z / (z * z - 1.0) * (image[ny - 1, x] + z * image[ny - 2, x])
    for y in range(ny - 2, -1, -1):
        for x in range(nx):
            image[y, x] = z * (image[y + 1, x] - image[y, x])
    for y in range(ny):
        for x in range(nx):
            image[y, x] *= 6.0


@kernel(inline="always")
def _is_known(unknown, x, y):
    """Whether a place is inside, with a value on every side."""
    ny, nx = unknown.shape
    if not (x >= 0.0 and y >= 0.0 and x <= nx - 1 and y <= ny - 1):
        return False
    i, j = int(x), int(y)
    # Where a place lies on a pixel, the next one has no say.
    last_i = i + 1 if x > i else i
    last_j = j + 1 if y > j else j
    return not (
        unknown[j, i] or unknown[j, last_i] or unknown[last_j, i] or unknown[last_j, last_i]
    )


@kernel(inline="always")
def _mirrored(k, n):
    """Index that a place beyond an end is given the value of."""
    if k < 0:
        k = -k
    if k >= n:
        k = 2 * n - 2 - k
    return max(0, k)


@kernel(inline="always")
def _value(coefficients, x, y):
    """The spline at a place that is inside."""
    ny, nx = coefficients.shape
    i, j = int(x), int(y)
    t, u = x - i, y - j
    a0, a1, a2, a3 = _weights(t)
    b0, b1, b2, b3 = _weights(u)
    if 1 <= i < nx - 2 and 1 <= j < ny - 2:
        i0, i1, i2, i3 = i - 1, i, i + 1, i + 2
        j0, j1, j2, j3 = j - 1, j, j + 1, j + 2
    else:
        i0, i1, i2, i3 = _mirrored(i - 1, nx), i, _mirrored(i + 1, nx), _mirrored(i + 2, nx)
        j0, j1, j2, j3 = _mirrored(j - 1, ny), j, _mirrored(j + 1, ny), _mirrored(j + 2, ny)
    c = coefficients
    return (
        b0 * (a0 * c[j0, i0] + a1 * c[j0, i1] + a2 * c[j0, i2] + a3 * c[j0, i3])
        + b1 * (a0 * c[j1, i0] + a1 * c[j1, i1] + a2 * c[j1, i2] + a3 * c[j1, i3])
        + b2 * (a0 * c[j2, i0] + a1 * c[j2, i1] + a2 * c[j2, i2] + a3 * c[j2, i3])
        + b3 * (a0 * c[j3, i0] + a1 * c[j3, i1] + a2 * c[j3, i2] + a3 * c[j3, i3])
    )


@kernel(inline="always")
def _weights(t):
    """The cubic B-spline at the four nearest knots."""
    u = 1.0 - t
    return (
        u * u * u / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0,
        t * t * t / 6.0,
    )


@kept_kernel
def read_places(coefficients, unknown, x, y, result):
    """Values of a spline at places; NaN where it is not known."""
    for k in range(x.size):
        known = _is_known(unknown, x[k], y[k])
        result[k] = _value(coefficients, x[k], y[k]) if known else np.nan


@kept_kernel
def read_lattice(coefficients, unknown, origin, matrix, result):
    """Values of a spline at ``origin + matrix (x, y)``; NaN where it is not known."""
    for row in range(result.shape[0]):
        for column in range(result.shape[1]):
            x = origin[0] + matrix[0, 0] * column + matrix[0, 1] * row
            y = origin[1] + matrix[1, 0] * column + matrix[1, 1] * row
            known = _is_known(unknown, x, y)
            result[row, column] = _value(coefficients, x, y) if known else np.nan


@kept_kernel
def read_with_slopes(coefficients, unknown, x, y, result):
    """Values of a spline, its slopes by x and y, and its Laplacian: rows of ``result``."""
    ny, nx = coefficients.shape
    a, b = np.empty((3, 4)), np.empty((3, 4))
    for k in range(x.size):
        if not _is_known(unknown, x[k], y[k]):
            result[:, k] = np.nan
            continue
        i, j = int(x[k]), int(y[k])
        _weights_and_slopes(x[k] - i, a)
        _weights_and_slopes(y[k] - j, b)
        value, by_x, by_y, curve = 0.0, 0.0, 0.0, 0.0
        for q in range(4):
            row = _mirrored(j + q - 1, ny)
            flat, slope, bend = 0.0, 0.0, 0.0
            for p in range(4):
                c = coefficients[row, _mirrored(i + p - 1, nx)]
                flat += a[0, p] * c
                slope += a[1, p] * c
                bend += a[2, p] * c
            value += b[0, q] * flat
            by_x += b[0, q] * slope
            by_y += b[1, q] * flat
            curve += b[0, q] * bend + b[2, q] * flat
        result[0, k], result[1, k], result[2, k], result[3, k] = value, by_x, by_y, curve


@kernel(inline="always")
def _weights_and_slopes(t, w):
    """Weights of four knots, and their first and second derivatives."""
    u = 1.0 - t
    w[0, 0], w[0, 1], w[0, 2], w[0, 3] = _weights(t)
    w[1, 0], w[1, 3] = -0.5 * u * u, 0.5 * t * t
    w[1, 1], w[1, 2] = t * (1.5 * t - 2.0), -u * (1.5 * u - 2.0)
    w[2, 0], w[2, 1], w[2, 2], w[2, 3] = u, 3.0 * t - 2.0, 3.0 * u - 2.0, t


@kept_kernel
def bin_pixels(values, known, bins, result, result_known):
    """Flux of ``bins`` x ``bins`` pixels of which more than half are known."""
    for y in range(result.shape[0]):
        for x in range(result.shape[1]):
            total, n = 0.0, 0
            for j in range(y * bins, (y + 1) * bins):
                for i in range(x * bins, (x + 1) * bins):
                    if known[j, i]:
                        total += values[j, i]
                        n += 1
            result_known[y, x] = 2 * n > bins * bins
            result[y, x] = total / n * bins * bins if 2 * n > bins * bins else 0.0


@fast_kept_kernel
def spaxel_and_spline(ky, kx, sides, result):
    """Transform of a spaxel, times what makes a spline's coefficients of values.

    Averaging over a parallelogram multiplies by one sinc along each of its sides; the
    coefficients of the cubic spline through a lattice of values have 3 / (2 + cos(2 pi k))
    times their waves, an axis.
    """
    one = np.float32(1.0)
    along_x = 3.0 / (2.0 + np.cos(2.0 * np.pi * kx))
    for j in range(ky.size):
        result[j] = along_x * (3.0 / (2.0 + math.cos(2.0 * math.pi * ky[j])))
    for side in range(2):
        angles = (math.pi * sides[side, 0] * kx).astype(np.float32)
        sines, cosines = np.sin(angles), np.cos(angles)
        for j in range(ky.size):
            angle = np.float32(math.pi * sides[side, 1] * ky[j])
            sine_y, cosine_y = math.sin(angle), math.cos(angle)
            for i in range(kx.size):
                # The sine of a sum: none has to be computed for each of the many waves.
                sine = sines[i] * cosine_y + cosines[i] * sine_y
                whole = angle + angles[i]
                small = abs(whole) < np.float32(1e-4)
                result[j, i] *= one if small else sine / (one if small else whole)


@fast_kept_kernel
def multiply_radially(waves, box, ky, kx, table, per_cycle, result):
    """Multiply waves by a function of their radial frequency, given as a table, and by a box."""
    along_x = ((kx * per_cycle) ** 2).astype(np.float32)
    steps = np.append(np.diff(table), np.float32(0.0))
    factor = np.empty(kx.size, np.float32)
    for j in range(ky.size):
        along_y = np.float32((ky[j] * per_cycle) ** 2)
        for i in range(kx.size):
            place = math.sqrt(along_x[i] + along_y)
            k = int(place)
            factor[i] = (table[k] + (place - np.float32(k)) * steps[k]) * box[j, i]
        # Two loops: this one is done with vector instructions.
        for i in range(kx.size):
            result[j, i] = waves[j, i] * factor[i]


@kept_kernel
def mark_near_unknown(known, reach, result):
    """Mark what is within ``reach`` pixels (a square) of a missing pixel, or of the outside."""
    ny, nx = known.shape
    if known.all():
        result[:] = True
        result[reach : ny - reach, reach : nx - reach] = False
        return
    near = np.empty((ny, nx), np.bool_)
    for y in range(ny):
        last = -1
        for x in range(nx):
            if not known[y, x]:
                last = x
            near[y, x] = x - last <= reach
        last = nx
        for x in range(nx - 1, -1, -1):
            if not known[y, x]:
                last = x
            near[y, x] |= last - x <= reach
    last_y = np.full(nx, -1)
    for y in range(ny):
        for x in range(nx):
            if near[y, x]:
                last_y[x] = y
            result[y, x] = y - last_y[x] <= reach
    last_y[:] = ny
    for y in range(ny - 1, -1, -1):
        for x in range(nx):
            if near[y, x]:
                last_y[x] = y
            result[y, x] |= last_y[x] - y <= reach


@kept_kernel(forceinline=True)
def clipped_level(values):
    """Median and robust standard deviation of sorted values: clipping leaves a part of them."""
    first, last = 0, values.size
    level, sigma = np.nan, np.nan
    for _ in range(CLIPS):
        if last == first:
            break
        level = 0.5 * (values[(first + last - 1) // 2] + values[(first + last) // 2])
        sigma = MAD_TO_SIGMA * _median_distance(values, first, last, level)
        was = last - first
        while first < last and level - values[first] > CLIP_SIGMA * sigma:
            first += 1
        while first < last and values[last - 1] - level > CLIP_SIGMA * sigma:
            last -= 1
        if last - first == was:
            break
    return level, sigma


@kernel
def _median_distance(values, first, last, level):
    """Median distance of sorted values from their median: the nearest half of them is walked."""
    above = (first + last) // 2
    below = above - 1
    n = last - first
    one = other = 0.0
    for _ in range(n // 2 + 1):
        one = other
        up = values[above] - level if above < last else np.inf
        down = level - values[below] if below >= first else np.inf
        if up <= down:
            other = up
            above += 1
        else:
            other = down
            below -= 1
    return other if n % 2 else 0.5 * (one + other)


@kept_kernel
def gather_cells(image, usable, edges_y, edges_x, cells, counts):
    """Collect the pixels of each cell of a mesh that count."""
    columns = edges_x.size - 1
    for i in range(edges_y.size - 1):
        for y in range(edges_y[i], edges_y[i + 1]):
            for j in range(columns):
                cell = i * columns + j
                n = counts[cell]
                for x in range(edges_x[j], edges_x[j + 1]):
                    if usable[y, x]:
                        cells[cell, n] = image[y, x]
                        n += 1
                counts[cell] = n


@kept_kernel
def cell_levels(cells, counts, levels):
    """Clipped median of each row of sorted values."""
    for k in range(levels.size):
        levels[k] = clipped_level(cells[k, : counts[k]])[0]


@kept_kernel
def pearson_coefficient(one, other, usable):
    """Pearson's coefficient of the usable pixels of two images; NaN of fewer than three."""
    n, sum_a, sum_b = 0, 0.0, 0.0
    for y in range(one.shape[0]):
        for x in range(one.shape[1]):
            if usable[y, x]:
                n += 1
                sum_a += one[y, x]
                sum_b += other[y, x]
    if n < 3:
        return np.nan
    mean_a, mean_b = sum_a / n, sum_b / n
    aa, ab, bb = 0.0, 0.0, 0.0
    for y in range(one.shape[0]):
        for x in range(one.shape[1]):
            if usable[y, x]:
                a, b = one[y, x] - mean_a, other[y, x] - mean_b
                aa += a * a
                ab += a * b
                bb += b * b
    norm = math.sqrt(aa * bb)
    return ab / norm if norm > 0 else np.nan


@kept_kernel
def nearest_place(x, y, reach, distance2, nearest):
    """The nearest place of each pixel within ``reach``, and the square of its distance."""
    ny, nx = nearest.shape
    n = int(reach)
    for k in range(x.size):
        for row in range(max(0, y[k] - n), min(ny, y[k] + n + 1)):
            for column in range(max(0, x[k] - n), min(nx, x[k] + n + 1)):
                away = float((row - y[k]) ** 2 + (column - x[k]) ** 2)
                if away < distance2[row, column] and away <= reach * reach:
                    distance2[row, column] = away
                    nearest[row, column] = k


@kept_kernel
def climb(values, inverse, log_inside, log_outside, rounds, places, belongs, likelihood):
    """Climb from each place to the nearest maximum of a mixture's likelihood, in place.

    Expectation and maximisation by turns: the probability of each value to belong, then
    the mean of the values so weighted. ``inverse`` are inverse covariances of the values,
    ``log_inside`` logarithms of their densities' heights, ``log_outside`` that of outliers.
    """
    for k in range(places.shape[0]):
        x, y = places[k]
        for _ in range(rounds):
            a = b = c = p = q = 0.0
            for s in range(values.shape[0]):
                w = _belonging(values[s], inverse[s], log_inside[s], log_outside, x, y)
                a += w * inverse[s, 0, 0]
                b += w * inverse[s, 0, 1]
                c += w * inverse[s, 1, 1]
                p += w * (inverse[s, 0, 0] * values[s, 0] + inverse[s, 0, 1] * values[s, 1])
                q += w * (inverse[s, 1, 0] * values[s, 0] + inverse[s, 1, 1] * values[s, 1])
            # Where hardly anything belongs the system must stay one that can be solved.
            least = 1e-12 * (a + c) + 1e-300
            a += least
            c += least
            determinant = a * c - b * b
            new_x, new_y = (c * p - b * q) / determinant, (a * q - b * p) / determinant
            moved = max(abs(new_x - x), abs(new_y - y))
            x, y = new_x, new_y
            if moved < 1e-6:
                break
        places[k, 0], places[k, 1] = x, y
        total = 0.0
        for s in range(values.shape[0]):
            w = _belonging(values[s], inverse[s], log_inside[s], log_outside, x, y)
            belongs[k, s] = w
            # log(inside + outside) = log(outside) - log(1 - w), or that of inside, of w.
            inside = log_inside[s] - 0.5 * _distance2(values[s], inverse[s], x, y)
            total += inside - math.log(w) if w > 0.5 else log_outside - math.log1p(-w)
        likelihood[k] = total


@kernel(inline="always")
def _distance2(value, inverse, x, y):
    """Square of the distance of a value from a place, in its errors."""
    dx, dy = value[0] - x, value[1] - y
    return inverse[0, 0] * dx * dx + 2.0 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy * dy


@kernel(inline="always")
def _belonging(value, inverse, log_inside, log_outside, x, y):
    """Probability that a value belongs to a place, and is no outlier."""
    inside = log_inside - 0.5 * _distance2(value, inverse, x, y)
    return 1.0 / (1.0 + math.exp(min(log_outside - inside, 700.0)))
