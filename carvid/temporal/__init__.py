"""What one frame leaves to the next. Arrays in, arrays out: no network, no file, no video.

A *key frame* gets CaR's step; between two key frames the masks are carried by optical flow.

    state      TemporalState: what survives from frame to frame; saved and loaded
    seen       what a frame shows whatever is looked for: colours, motion, is it a cut
    observe    the state meets a new frame: where are the tracks now, is it a key frame
    cuts       cuts, dissolves and flashes
    flow       optical flow between two frames, and how far it can be trusted
    carry      masks carried by flow, corrected by colours, snapped to edges
    colors     the colours inside each track and around it
    motion     what moves as a mask does
    memory     colours and motion complete a key frame's proposals
    update     the state that a frame leaves
    lookahead  files only: decide a key frame when some further ones have been seen
    backward   for that: carry a key frame's masks into the frames before it
    pending    for that: a frame before, while and after it waits
    instances  every thing of an expression as a track of its own: a key frame's parts, and for that
               instance_carry (the frames between), instance_state, matching, census (what of all
               that was followed is a thing)
    packing    arrays as text, for a state that is saved as JSON

Which candidate mask a query chooses at a key frame is in `carvid.car.choice`.
"""
