"""Outputs of frozen layers, computed once and shared by trials, processes and later runs.

An example: a backbone of the layer groups stem, layer1, layer2 and layer3. A trial with freeze depth 2 keeps stem and
layer1 frozen. Their output of an example is then the same in every epoch and in every such trial.

1. `recording` runs the backbone once on two examples, and once on them doubled. It notes each module's call: its layer
   groups, and the shape of its result. The dimension that doubles is the examples'.
2. A `Cut` is the end of one call, such as layer1's. `boundary_search` tries the cuts behind each group. The first that
   gives the features of the whole backbone, in training too, makes boundary 2. `boundary_file` stores what was found.
3. `placement` chooses the boundaries whose bytes are worth the seconds spared. It may keep boundaries 2 and 4, where 4
   is the features.
4. `partial_forward` runs the backbone's own `forward` on all examples and stops at the cut. The `store` keeps the
   values (N, C, H, W) as a block, in memory or in a file of the `block_folder`.
5. The trial's `reader` hands out rows of that block as `PartialInputs`. Its backbone resumes: stem and layer1 return
   stored values or placeholders at once, and only layer2 and layer3 are computed.

With freeze depth 3 the trial reads boundary 2 as well, and its frozen layer2 is recomputed from there at each step.
"""
