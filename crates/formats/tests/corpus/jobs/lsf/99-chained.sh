#!/bin/bash
#BSUB -J step_1
#BSUB -o step_1.%J
#BSUB -W 30
./step 1 > state.1 || exit 1
# The next one waits for this one.
bsub -w "done($LSB_JOBID)" -J step_2 -o step_2.%J <<'END'
#!/bin/bash
#BSUB -n 12
#BSUB -W 2:00
./step 2 < state.1
END
