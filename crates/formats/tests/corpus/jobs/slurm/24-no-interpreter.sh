#SBATCH --ntasks=4
echo hello
