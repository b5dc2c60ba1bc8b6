export interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface LabelledPoint {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const GAP = 8;
const STEP = 6;
const FARTHEST = 10;

/** For each point the place of its label: beside it, else above or below, and farther, until it meets nothing. */
export function placeLabels(points: readonly LabelledPoint[], within: Box): Box[] {
  const taken: Box[] = points.map(({ x, y }) => ({ left: x - GAP, right: x + GAP, top: y - GAP, bottom: y + GAP }));
  return points.map((point, own) => {
    const others = (): Box[] => taken.filter((_, index) => index !== own);
    const places = candidatesOf(point);
    const free = places.find((place) => isInside(place, within) && !others().some((other) => meets(place, other)));
    const place = free ?? places[0]!;
    taken.push(place);
    return place;
  });
}

function candidatesOf({ x, y, width, height }: LabelledPoint): Box[] {
  const boxAt = (left: number, middle: number): Box => ({
    left,
    right: left + width,
    top: middle - height / 2,
    bottom: middle + height / 2,
  });
  const beside = [boxAt(x + GAP, y), boxAt(x - GAP - width, y)];
  const apart = Array.from({ length: FARTHEST }, (_, step) => GAP + height / 2 + step * STEP).flatMap((distance) =>
    [x - width / 2, x - width + GAP, x - GAP].flatMap((left) => [boxAt(left, y - distance), boxAt(left, y + distance)]),
  );
  return [...beside, ...apart];
}

function isInside(place: Box, within: Box): boolean {
  return (
    place.left >= within.left && place.right <= within.right && place.top >= within.top && place.bottom <= within.bottom
  );
}

function meets(one: Box, other: Box): boolean {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}
