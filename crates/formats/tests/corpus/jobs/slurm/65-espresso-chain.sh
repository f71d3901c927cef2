#!/bin/bash
# Submits a chain: each step waits for the one before.
#SBATCH --job-name=driver
#SBATCH --ntasks=1
#SBATCH --time=5
#SBATCH --dependency=afterok:1200+30,afterany:1188:1190

prev=$(sbatch --parsable -n 64 -t 2:00:00 scf.sh)
for step in nscf bands dos; do
    prev=$(sbatch --parsable -n 64 -t 1:00:00 \
           --dependency=afterok:"$prev" "$step.sh")
    echo "$step is job $prev"
done
sbatch --dependency=afterany:"$prev" <<'END'
#!/bin/bash
#SBATCH --time=10
#SBATCH --mem=1G
python collect.py
END
